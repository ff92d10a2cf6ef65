/** What the makers of transforms accept, and the sentences they say about anything else. */

export function assertPowerOfTwo(maker: string, argument: string, value: number): void {
  if (!(value >= 2) || !Number.isInteger(Math.log2(value))) {
    throw new Error(`${maker}: ${argument} must be a power of two from 2 on, got ${value}.`);
  }
}

export function assertFinite(maker: string, argument: string, values: ArrayLike<number>): void {
  const at = Array.from(values).findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw new Error(`${maker}: ${argument} must hold finite numbers, got ${values[at]} at ${at}.`);
}

/** Values in the number of a power of two. @returns that number. */
export function checkedSize(maker: string, argument: string, values: ArrayLike<number>): number {
  assertPowerOfTwo(maker, `${argument}.length`, values.length);
  assertFinite(maker, argument, values);
  return values.length;
}

export function assertValues(maker: string, argument: string, values: ArrayLike<number>, n: number): void {
  if (values.length !== n) {
    throw new Error(`${maker}: ${argument} must have as many values as the others, ${n}, got ${values.length}.`);
  }
  assertFinite(maker, argument, values);
}

export function checkedPermutation(maker: string, permutation: ArrayLike<number>): Int32Array {
  const n = checkedSize(maker, 'permutation', permutation);
  const indices = Array.from(permutation);
  const isIndex = (index: number) => Number.isInteger(index) && index >= 0 && index < n;
  if (!indices.every(isIndex) || new Set(indices).size !== n) {
    throw new Error(
      `${maker}: permutation must hold each integer from 0 to ${n - 1} once, got [${indices.join(', ')}].`,
    );
  }
  return Int32Array.from(indices);
}
