/** The op `butterflyMultiply`. */
import {engine, type NamedTensorMap, type Tensor, type TensorContainer, tidy, util} from '@tensorflow/tfjs-core';
import {registerButterflyFallback} from '../../kernels/fallback/butterfly_multiply.js';
import {runButterflyMultiply} from '../gradients/butterfly_gradient.js';
import {
  type ComplexPair,
  formOf,
  inForm,
  type MaybeComplex,
  type Parts,
  toParts,
  withImaginary,
} from './complex_numbers.js';
import {asRows, reshapeIfNeeded} from './reshape_if_needed.js';

/** Options of {@link butterflyMultiply}. */
export interface ButterflyMultiplyOptions {
  /**
   * Whether the factors of the first block pair elements at distances 1, 2, …, n / 2 (true, the default) or n / 2, …, 2, 1.
   * From block to block the order is reversed.
   */
  increasingStride?: boolean;
  /** Elements of the output's last axis, at most stacks·n, or n with `transpose`; the others are cut off. Default: all. */
  outputSize?: number;
  /** Multiplies by the transpose: takes what the stacks put out side by side, and adds up what they give. Default false. */
  transpose?: boolean;
  /** Multiplies by the complex conjugate. Default false. */
  conjugate?: boolean;
}

/**
 * Multiplies by butterfly matrices: each is a product of `blocks`·log₂ n sparse factors of 2 × 2 matrices on pairs of
 * elements, O(n log n) numbers and operations that can hold the FFT and many other fast transforms, and can be learnt.
 * Factor `i` of a block whose strides increase has stride s = 2ⁱ: pair t, of elements j = 2s·⌊t/s⌋ + t mod s and j + s, becomes
 * [y[j], y[j + s]] = T[t]·[x[j], x[j + s]]. Of several `stacks` each multiplies x by a matrix of its own, and their outputs
 * stand side by side.
 *
 * Differentiable once in x and twiddle. tfjs has no gradients of complex64 tensors, so complex numbers that take part in
 * training are given, and returned, as pairs `{real, imag}`.
 *
 * Source: Dao, Gu, Eichhorn, Rudra and Ré, "Learning Fast Algorithms for Linear Transforms Using Butterfly
 * Factorizations" (2019, arXiv 1903.05895).
 *
 * ```js
 * const twiddle = tf.randomNormal([1, 1, 4, 8, 2, 2]); // one stack of one block, n = 16
 * const x = tf.randomNormal([3, 10]); // continued with zeros
 * const y = tf.butterflyMultiply(x, twiddle, {outputSize: 12});
 * console.log(y.shape); // [3, 12]
 * ```
 *
 * @param x [.., input size], float32 or complex64 or a pair; at most n elements in the last axis, or stacks·n with
 *   `transpose`, continued with zeros.
 * @param twiddle [stacks, blocks, log₂ n, n / 2, 2, 2], float32 or complex64 or a pair, for a power of two n ≥ 2.
 * @param options see {@link ButterflyMultiplyOptions}.
 * @returns [.., output size]: a pair if x or twiddle is one, else complex64 if either is, else float32.
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export function butterflyMultiply(
  x: ComplexPair,
  twiddle: MaybeComplex,
  options?: ButterflyMultiplyOptions,
): ComplexPair;
export function butterflyMultiply(
  x: MaybeComplex,
  twiddle: ComplexPair,
  options?: ButterflyMultiplyOptions,
): ComplexPair;
export function butterflyMultiply(
  x: Exclude<MaybeComplex, ComplexPair>,
  twiddle: Exclude<MaybeComplex, ComplexPair>,
  options?: ButterflyMultiplyOptions,
): Tensor;
export function butterflyMultiply(
  x: MaybeComplex,
  twiddle: MaybeComplex,
  options: ButterflyMultiplyOptions = {},
): Tensor | ComplexPair {
  const {increasingStride = true, transpose = false, conjugate = false} = options;
  const form = formOf(x, twiddle);
  return tidy(() => {
    const factors = toParts('butterflyMultiply', 'twiddle', twiddle);
    const input = toParts('butterflyMultiply', 'x', x);
    const {outputSize, leading} = checkedSizes(input.real.shape, factors.real.shape, options);
    registerButterflyFallback(engine().backendName);
    const attrs = {increasingStride, outputSize, transpose, conjugate};
    const outputs = runButterflyMultiply(kernelInputs(input, factors, form !== 'float32'), attrs);
    const [real, imag] = outputs.map((output) => reshapeIfNeeded(output, [...leading, outputSize]));
    return inForm(form, {real, imag}) as TensorContainer;
  }) as Tensor | ComplexPair;
}

function kernelInputs(x: Parts, twiddle: Parts, isComplex: boolean): NamedTensorMap {
  if (!isComplex) return {x: asRows(x.real), twiddle: twiddle.real};
  const [complexX, complexTwiddle] = [withImaginary(x), withImaginary(twiddle)];
  return {
    x: asRows(complexX.real),
    twiddle: complexTwiddle.real,
    xImag: asRows(complexX.imag),
    twiddleImag: complexTwiddle.imag,
  };
}

function checkedSizes(
  x: number[],
  twiddle: number[],
  {outputSize, transpose}: ButterflyMultiplyOptions,
): {outputSize: number; leading: number[]} {
  const fail = (message: string): never => {
    throw new Error(`butterflyMultiply: ${message}; got x [${x.join(', ')}], twiddle [${twiddle.join(', ')}].`);
  };
  const [stacks, , factors, pairs] = twiddle;
  const isTwiddle =
    twiddle.length === 6 &&
    twiddle.every((size) => size > 0) &&
    pairs === 2 ** (factors - 1) &&
    util.arraysEqual(twiddle.slice(4), [2, 2]);
  if (!isTwiddle) fail('twiddle must be [stacks, blocks, log2 n, n / 2, 2, 2] for a power of two n');
  const n = 2 * pairs;
  const [most, mostOutputs] = transpose ? [stacks * n, n] : [n, stacks * n];
  const inputSize = x[x.length - 1];
  if (!(inputSize >= 1 && inputSize <= most)) {
    fail(`the last axis of x must have from 1 to ${transpose ? 'stacks·n' : 'n'} = ${most} elements`);
  }
  const size = outputSize ?? mostOutputs;
  if (!Number.isInteger(size) || size < 1 || size > mostOutputs) {
    fail(`outputSize must be an integer from 1 to ${transpose ? 'n' : 'stacks·n'} = ${mostOutputs}, got ${outputSize}`);
  }
  return {outputSize: size, leading: x.slice(0, -1)};
}
