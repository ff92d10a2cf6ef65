/** WGSL of reductions within a workgroup, in a fixed order. */

/** Which invocations' values are combined: `count`, a power of two, that stand `stride` apart. */
export interface Reduction {
  name: string;
  type: 'f32' | 'vec2f' | 'vec4f';
  count: number;
  /** Default 1. */
  stride?: number;
  combine: (a: string, b: string) => string;
}

/** The memory that reductions of one type share; it must be declared once per shader. */
export function declareShares(threads: number, type: Reduction['type']): string {
  return `var<workgroup> shares: array<${type}, ${threads}>;`;
}

/** A function that combines a value of each invocation into one that all of them get, from those combined with it. */
export function reductionFunction({name, type, count, stride = 1, combine}: Reduction): string {
  const [own, other] = ['shares[localIndex]', `shares[localIndex + half * ${stride}u]`];
  return `
fn ${name}(localIndex: u32, value: ${type}) -> ${type} {
  let place = localIndex / ${stride}u % ${count}u;
  shares[localIndex] = value;
  workgroupBarrier();
  for (var half = ${count}u / 2u; half > 0u; half /= 2u) {
    if (place < half) { ${own} = ${combine(own, other)}; }
    workgroupBarrier();
  }
  let result = shares[localIndex - place * ${stride}u];
  workgroupBarrier();
  return result;
}`;
}

export const plus = (a: string, b: string): string => `${a} + ${b}`;
export const maximum = (a: string, b: string): string => `max(${a}, ${b})`;
