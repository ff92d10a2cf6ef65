/** Structured matrices as dense ones: their ops applied to the identity. */
import {
  eye,
  type Tensor,
  type Tensor2D,
  Tensor as TensorClass,
  type TensorContainer,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import {type ButterflyMultiplyOptions, butterflyMultiply} from '../ops/butterfly_multiply.js';
import {type ComplexPair, type MaybeComplex, toParts} from '../ops/complex_numbers.js';
import {monarchMatMul} from '../ops/monarch_mat_mul.js';

type NoPair = Exclude<MaybeComplex, ComplexPair>;

/** Options of {@link butterflyToDense}. */
export interface ButterflyToDenseOptions extends ButterflyMultiplyOptions {
  /** Columns of the matrix: the first so many of n, or of stacks·n with `transpose`. Default: all. */
  inputSize?: number;
}

/**
 * The dense matrix W of a Monarch matrix: `monarchMatMul(x, w1, w2)` is W·x. Differentiable in w1 and w2.
 *
 * ```js
 * const w = tf.monarchToDense(tf.randomNormal([4, 6, 8]), tf.randomNormal([3, 5, 8]));
 * console.log(w.shape); // [15, 32]
 * ```
 *
 * @param w1 [k, q, p], as in `monarchMatMul`.
 * @param w2 [l, s, r], as in `monarchMatMul`.
 * @returns [l·s, k·p]: a pair if w1 or w2 is one, else complex64 if either is, else float32.
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export function monarchToDense(w1: ComplexPair, w2: MaybeComplex): ComplexPair;
export function monarchToDense(w1: MaybeComplex, w2: ComplexPair): ComplexPair;
export function monarchToDense(w1: NoPair, w2: NoPair): Tensor2D;
export function monarchToDense(w1: MaybeComplex, w2: MaybeComplex): Tensor2D | ComplexPair {
  return matrixOf(
    () => {
      const [k, , p] = toParts('monarchToDense', 'w1', w1).real.shape;
      return k * p;
    },
    (x) => monarchMatMul(x, w1, w2),
  );
}

/**
 * The dense matrix W of butterfly matrices: `butterflyMultiply(x, twiddle, options)` is W·x. Differentiable in twiddle.
 *
 * ```js
 * const w = tf.butterflyToDense(tf.randomNormal([1, 1, 4, 8, 2, 2]), {inputSize: 10});
 * console.log(w.shape); // [16, 10]
 * ```
 *
 * @param twiddle [stacks, blocks, log₂ n, n / 2, 2, 2], as in `butterflyMultiply`.
 * @param options those of `butterflyMultiply`, and `inputSize`; see {@link ButterflyToDenseOptions}.
 * @returns [output size, input size]: shaped and typed as twiddle is: a pair, complex64 or float32.
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export function butterflyToDense(twiddle: ComplexPair, options?: ButterflyToDenseOptions): ComplexPair;
export function butterflyToDense(twiddle: NoPair, options?: ButterflyToDenseOptions): Tensor2D;
export function butterflyToDense(
  twiddle: MaybeComplex,
  {inputSize, ...options}: ButterflyToDenseOptions = {},
): Tensor2D | ComplexPair {
  return matrixOf(
    () => {
      const [stacks, , , pairs] = toParts('butterflyToDense', 'twiddle', twiddle).real.shape;
      return inputSize ?? (options.transpose ? stacks : 1) * 2 * pairs;
    },
    (x) => butterflyMultiply(x, twiddle as NoPair, options),
  );
}

/** The matrix by which `multiply` multiplies each row of its argument. */
function matrixOf(inputSize: () => number, multiply: (x: Tensor2D) => Tensor | ComplexPair): Tensor2D | ComplexPair {
  return tidy(() => {
    // Where a shape that does not fit leaves the size unknown, any will do: the op says what is wrong.
    const size = inputSize();
    const columns = multiply(eye(Number.isNaN(size) ? 1 : size));
    const rows: Tensor | ComplexPair =
      columns instanceof TensorClass
        ? transpose(columns)
        : {real: transpose(columns.real), imag: transpose(columns.imag)};
    return rows as TensorContainer;
  }) as Tensor2D | ComplexPair;
}
