/** Transforms by sums and differences: Hadamard's and Haar's. */
import {type ButterflyBlock, butterflyBlock, toStage} from './butterfly_block.js';
import type {FastTransform} from './fast_transform.js';
import {assertPowerOfTwo} from './transform_arguments.js';

export interface HadamardOptions {
  /** Whether the matrix is divided by √n, which makes it orthogonal. Default false. */
  unitary?: boolean;
}

/**
 * The Hadamard (or Walsh–Hadamard) transform in natural order, y[k] = Σ_j (−1)^(j · k)·x[j], where j · k is the number
 * of binary digits that are 1 in both. Its factors are all [[1, 1], [1, −1]].
 *
 * ```js
 * const y = tf.applyTransform([1, 0, 0, 1], tf.transforms.hadamard(4));
 * console.log(y.arraySync()); // [2, 0, 0, 2]
 * ```
 *
 * @param n elements, a power of two from 2 on.
 * @param options see {@link HadamardOptions}.
 * @throws Error if n is not a power of two from 2 on.
 */
export function hadamard(n: number, options: HadamardOptions = {}): FastTransform<'real'> {
  assertPowerOfTwo('hadamard', 'n', n);
  const stages = [toStage([hadamardBlock(n, options.unitary ? Math.SQRT1_2 : 1)])];
  return {field: 'real', inputShape: [n], outputShape: [n], stages};
}

/** Each factor times `scale`. */
export function hadamardBlock(n: number, scale: number): ButterflyBlock {
  return butterflyBlock(n, true, () => sumAndDifference(scale));
}

/**
 * The orthogonal Haar wavelet transform: y[0] = Σ_j x[j] / √n, and for each scale s = 1, 2, …, n / 2,
 * y[n / 2s + i] = (Σ_{j < s} x[2si + j] − Σ_{j < s} x[2si + s + j]) / √(2s) for i < n / 2s. The coarsest differences
 * come first. `transposeTransform` gives the inverse.
 *
 * Source: Haar, "Zur Theorie der orthogonalen Funktionensysteme" (1910).
 *
 * ```js
 * tf.applyTransform([1, 1, 3, 1], tf.transforms.haarWavelet(4)).print(); // 3, −1, 0, √2
 * ```
 *
 * @param n elements, a power of two from 2 on.
 * @throws Error if n is not a power of two from 2 on.
 */
export function haarWavelet(n: number): FastTransform<'real'> {
  assertPowerOfTwo('haarWavelet', 'n', n);
  const keep = {real: [1, 0, 0, 1]};
  // The sums of each scale stay where the first of their elements was, and are all that the next scale works on.
  const block = butterflyBlock(n, true, (stride, first) =>
    first % (2 * stride) === 0 ? sumAndDifference(Math.SQRT1_2) : keep,
  );
  const indices = Int32Array.from({length: n}, (_, i) => {
    if (i === 0) return 0;
    const differences = 2 ** Math.floor(Math.log2(i));
    return (n / differences) * (i - differences + 0.5);
  });
  return {field: 'real', inputShape: [n], outputShape: [n], stages: [toStage([block]), {indices}]};
}

function sumAndDifference(scale: number) {
  return {real: [scale, scale, scale, -scale]};
}
