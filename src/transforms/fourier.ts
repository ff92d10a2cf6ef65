/** Fourier transforms in one and two dimensions. */
import {type ButterflyBlock, butterflyBlock, toStage} from './butterfly_block.js';
import type {FastTransform} from './fast_transform.js';
import {assertPowerOfTwo} from './transform_arguments.js';

export interface FourierOptions {
  /** Whether the transform is divided by the square root of its size, which makes it unitary. Default false. */
  unitary?: boolean;
}

/**
 * The order that a fast Fourier transform takes its input in: element i comes from the index whose log₂ n binary digits
 * are those of i read backwards. The permutation is its own inverse.
 *
 * ```js
 * console.log(tf.transforms.bitReversal(8)); // [0, 4, 2, 6, 1, 5, 3, 7]
 * ```
 *
 * @returns [n] indices for `tf.gather`.
 * @throws Error if n is not a power of two from 2 on.
 */
export function bitReversal(n: number): Int32Array {
  assertPowerOfTwo('bitReversal', 'n', n);
  const order = new Int32Array(n);
  // The digits of i are those of ⌊i / 2⌋ and one more, which comes first when they are read backwards.
  for (let i = 1; i < n; i++) order[i] = (order[i >> 1] >> 1) + (i % 2) * (n / 2);
  return order;
}

/**
 * The discrete Fourier transform y[k] = Σ_j x[j]·exp(−2πi·jk / n), as a gather by {@link bitReversal} and one
 * butterfly.
 *
 * Source: Cooley and Tukey, "An Algorithm for the Machine Calculation of Complex Fourier Series" (1965).
 *
 * ```js
 * const y = tf.applyTransform(tf.randomNormal([3, 16]), tf.transforms.fft(16));
 * console.log(y.real.shape, y.imag.shape); // [3, 16] [3, 16]
 * ```
 *
 * @param n elements, a power of two from 2 on.
 * @param options see {@link FourierOptions}.
 * @throws Error if n is not a power of two from 2 on.
 */
export function fft(n: number, options: FourierOptions = {}): FastTransform<'complex'> {
  assertPowerOfTwo('fft', 'n', n);
  return fourier([n], -1, options.unitary ? Math.SQRT1_2 : 1);
}

/**
 * The inverse of {@link fft} with the same options: x[j] = 1/n·Σ_k y[k]·exp(2πi·jk / n), with 1/√n if it is unitary.
 *
 * @param n elements, a power of two from 2 on.
 * @param options see {@link FourierOptions}.
 * @throws Error if n is not a power of two from 2 on.
 */
export function ifft(n: number, options: FourierOptions = {}): FastTransform<'complex'> {
  assertPowerOfTwo('ifft', 'n', n);
  return fourier([n], 1, options.unitary ? Math.SQRT1_2 : 0.5);
}

/**
 * The discrete Fourier transform in two dimensions, y[k, l] = Σ_ij x[i, j]·exp(−2πi·(ik / n1 + jl / n2)). Its factors
 * are those of the columns' transform after those of the rows', which make one butterfly of n1·n2 elements.
 *
 * ```js
 * const images = tf.randomNormal([5, 8, 4]);
 * const y = tf.applyTransform(images, tf.transforms.fft2d(8, 4));
 * const x = tf.applyTransform(y, tf.transforms.ifft2d(8, 4));
 * console.log(x.real.shape); // [5, 8, 4]
 * ```
 *
 * @param n1 rows, a power of two from 2 on.
 * @param n2 columns, a power of two from 2 on.
 * @param options see {@link FourierOptions}.
 * @throws Error if n1 or n2 is not a power of two from 2 on.
 */
export function fft2d(n1: number, n2: number, options: FourierOptions = {}): FastTransform<'complex'> {
  assertPowerOfTwo('fft2d', 'n1', n1);
  assertPowerOfTwo('fft2d', 'n2', n2);
  return fourier([n1, n2], -1, options.unitary ? Math.SQRT1_2 : 1);
}

/**
 * The inverse of {@link fft2d} with the same options.
 *
 * @param n1 rows, a power of two from 2 on.
 * @param n2 columns, a power of two from 2 on.
 * @param options see {@link FourierOptions}.
 * @throws Error if n1 or n2 is not a power of two from 2 on.
 */
export function ifft2d(n1: number, n2: number, options: FourierOptions = {}): FastTransform<'complex'> {
  assertPowerOfTwo('ifft2d', 'n1', n1);
  assertPowerOfTwo('ifft2d', 'n2', n2);
  return fourier([n1, n2], 1, options.unitary ? Math.SQRT1_2 : 0.5);
}

function fourier(shape: readonly number[], sign: 1 | -1, scale: number): FastTransform<'complex'> {
  const block = fourierBlock(shape, {sign, scale, increasingStride: true});
  const stages = [{indices: bitReversalOfAxes(shape)}, toStage([block])];
  return {field: 'complex', inputShape: shape, outputShape: shape, stages};
}

function bitReversalOfAxes(shape: readonly number[]): Int32Array {
  return shape.map(bitReversal).reduce((rows, columns) => {
    const size = columns.length;
    return Int32Array.from({length: rows.length * size}, (_, i) => {
      return rows[Math.floor(i / size)] * size + columns[i % size];
    });
  });
}

/**
 * The Fourier transform of an array of one or two axes, exp(sign·2πi·…) in place of the above, each factor times
 * `scale`: of input in bit-reversed order if the strides increase, else, as that matrix is symmetric, with output in
 * that order.
 */
export function fourierBlock(
  shape: readonly number[],
  {sign, scale, increasingStride}: {sign: 1 | -1; scale: number; increasingStride: boolean},
): ButterflyBlock {
  const n = shape.reduce((product, size) => product * size);
  const columns = shape[shape.length - 1];
  return butterflyBlock(n, increasingStride, (stride, first) => {
    // Elements that are next to each other on the axis that this factor belongs to are so far apart.
    const step = stride < columns ? 1 : columns;
    const strideOnAxis = stride / step;
    const angle = (sign * Math.PI * (Math.floor(first / step) % strideOnAxis)) / strideOnAxis;
    const [cos, sin] = [scale * Math.cos(angle), scale * Math.sin(angle)];
    return increasingStride
      ? {real: [scale, cos, scale, -cos], imag: [0, sin, 0, -sin]}
      : {real: [scale, scale, cos, -cos], imag: [0, 0, sin, -sin]};
  });
}
