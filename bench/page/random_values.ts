/** Random inputs, fast enough for tens of millions of them and the same in every run. */

/** Mean and standard deviation of the sum of four random bytes. */
const mean = 2 * 255;
const deviation = Math.sqrt((4 * (256 ** 2 - 1)) / 12);

/** Roughly normal values of mean 0 and variance 1: the sum of the four bytes of a hash of each index. */
export function randomValues(seed: number, count: number): Float32Array {
  const values = new Float32Array(count);
  const start = Math.imul(seed, 0x9e3779b9);
  for (let i = 0; i < count; i++) {
    const bits = hash(start + i);
    values[i] = ((bits & 255) + ((bits >>> 8) & 255) + ((bits >>> 16) & 255) + (bits >>> 24) - mean) / deviation;
  }
  return values;
}

/** Evenly spread integers from 0 up to `below`, at most 2^32. */
export function randomIntegers(seed: number, count: number, below: number): number[] {
  const start = Math.imul(seed, 0x9e3779b9);
  return Array.from({length: count}, (_, i) => Math.floor(((hash(start + i) >>> 0) / 2 ** 32) * below));
}

/** The finaliser of MurmurHash3. */
function hash(x: number): number {
  let bits = x ^ (x >>> 16);
  bits = Math.imul(bits, 0x85ebca6b);
  bits ^= bits >>> 13;
  bits = Math.imul(bits, 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
