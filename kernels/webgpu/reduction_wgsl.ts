/** WGSL with which the invocations of a workgroup add up, or compare, a number of each. */

/** Workgroup memory of the functions that {@link reduction} makes. */
export const declareShares = (threads: number) => `var<workgroup> shares: array<f32, ${threads}>;`;

/**
 * A function that combines a number of each invocation, in a fixed order, into one that all of them get: all `lanes` of
 * them that follow one another, a power of two. The whole workgroup has to call it.
 */
export function reduction(name: string, lanes: number, combine: (a: string, b: string) => string): string {
  return `
fn ${name}(localIndex: u32, value: f32) -> f32 {
  let lane = localIndex % ${lanes}u;
  shares[localIndex] = value;
  workgroupBarrier();
  for (var half = ${lanes / 2}u; half > 0u; half /= 2u) {
    if (lane < half) { shares[localIndex] = ${combine('shares[localIndex]', 'shares[localIndex + half]')}; }
    workgroupBarrier();
  }
  let result = shares[localIndex - lane];
  workgroupBarrier();
  return result;
}`;
}

export const sumReduction = (name: string, lanes: number) => reduction(name, lanes, (a, b) => `${a} + ${b}`);
export const maximumReduction = (name: string, lanes: number) => reduction(name, lanes, (a, b) => `max(${a}, ${b})`);
