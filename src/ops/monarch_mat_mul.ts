/** The op `monarchMatMul`. */
import {add, engine, sub, type Tensor, type TensorContainer, tidy} from '@tensorflow/tfjs-core';
import {registerBlockDiagonalFallback} from '../../kernels/fallback/block_diagonal.js';
import {runBlockDiagonalMatMul} from '../gradients/block_diagonal_gradient.js';
import type {BlockOrder} from '../kernel_names.js';
import {type ComplexPair, formOf, inForm, type MaybeComplex, type Parts, toParts} from './complex_numbers.js';
import {asRows, reshapeIfNeeded} from './reshape_if_needed.js';

type NoPair = Exclude<MaybeComplex, ComplexPair>;

/**
 * Multiplies by a Monarch matrix: two block-diagonal matrices with permutations around the second, kqp + lsr parameters
 * where a dense matrix has nm, and products that GPUs are good at. With h the outputs of the first blocks side by side,
 *
 *     h[κq + j] = Σ_i w1[κ, j, i]·x[κp + i]
 *     y[σl + λ] = Σ_ρ w2[λ, σ, ρ]·h[ρl + λ]
 *
 * so block λ of the second reads every l-th element of h and writes every l-th of y. The CPU, WebGL and WebGPU backends
 * permute nothing in memory for it; others transpose what goes into and comes out of tfjs's batched product.
 *
 * Differentiable in x, w1 and w2, any number of times. tfjs has no gradients of complex64 tensors, so complex numbers
 * that take part in training are given, and returned, as pairs `{real, imag}`.
 *
 * Source: Dao, Chen, Sohoni, Desai, Poli, Grogan, Liu, Rao, Rudra and Ré, "Monarch: Expressive Structured Matrices for
 * Efficient and Accurate Training" (2022, arXiv 2204.00595).
 *
 * ```js
 * const w1 = tf.randomNormal([4, 6, 8]); // 4 blocks from 8 to 6 elements: n = 32
 * const w2 = tf.randomNormal([3, 5, 8]); // 3 blocks from 8 to 5 elements: m = 15
 * const y = tf.monarchMatMul(tf.randomNormal([10, 32]), w1, w2);
 * console.log(y.shape); // [10, 15]
 * ```
 *
 * @param x [.., n], float32 or complex64 or a pair.
 * @param w1 [k, q, p] with k·p = n, float32 or complex64 or a pair.
 * @param w2 [l, s, r] with l·r = k·q, float32 or complex64 or a pair.
 * @returns [.., m] with m = l·s: a pair if any argument is one, else complex64 if any is, else float32.
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export function monarchMatMul(x: ComplexPair, w1: MaybeComplex, w2: MaybeComplex): ComplexPair;
export function monarchMatMul(x: MaybeComplex, w1: ComplexPair, w2: MaybeComplex): ComplexPair;
export function monarchMatMul(x: MaybeComplex, w1: MaybeComplex, w2: ComplexPair): ComplexPair;
export function monarchMatMul(x: NoPair, w1: NoPair, w2: NoPair): Tensor;
export function monarchMatMul(x: MaybeComplex, w1: MaybeComplex, w2: MaybeComplex): Tensor | ComplexPair;
export function monarchMatMul(x: MaybeComplex, w1: MaybeComplex, w2: MaybeComplex): Tensor | ComplexPair {
  return tidy(() => {
    const input = toParts('monarchMatMul', 'x', x);
    const first = toParts('monarchMatMul', 'w1', w1);
    const second = toParts('monarchMatMul', 'w2', w2);
    const outputShape = checkedSizes(input.real.shape, first.real.shape, second.real.shape);
    registerBlockDiagonalFallback(engine().backendName);
    const h = product(ofEachPart(input, asRows), first, 'blocked');
    const y = product(h, second, 'interleaved');
    const output = ofEachPart(y, (part) => reshapeIfNeeded(part, outputShape));
    return inForm(formOf(x, w1, w2), output) as TensorContainer;
  }) as Tensor | ComplexPair;
}

/** A block-diagonal product whose output has the order of its input. */
function product(x: Parts, w: Parts, order: BlockOrder): Parts {
  const ofParts = (a?: Tensor, b?: Tensor) =>
    a && b && runBlockDiagonalMatMul(a, b, {input: order, output: order, transpose: false});
  const real = ofParts(x.real, w.real) as Tensor;
  const [realOfImags, ...crossed] = [ofParts(x.imag, w.imag), ofParts(x.real, w.imag), ofParts(x.imag, w.real)];
  const [imag, otherImag] = crossed.filter((part) => part !== undefined);
  return {
    real: realOfImags ? sub(real, realOfImags) : real,
    imag: otherImag ? add(imag, otherImag) : imag,
  };
}

function ofEachPart({real, imag}: Parts, change: (part: Tensor) => Tensor): Parts {
  return {real: change(real), imag: imag && change(imag)};
}

/** @returns the shape of the output. */
function checkedSizes(x: number[], w1: number[], w2: number[]): number[] {
  const fail = (message: string): never => {
    const shapes = Object.entries({x, w1, w2}).map(([name, shape]) => `${name} [${shape.join(', ')}]`);
    throw new Error(`monarchMatMul: ${message}; got ${shapes.join(', ')}.`);
  };
  const isFactor = (shape: number[]) => shape.length === 3 && shape.every((size) => size > 0);
  if (!isFactor(w1)) fail('w1 must be [k, q, p]');
  const [k, q, p] = w1;
  if (x[x.length - 1] !== k * p) fail(`the last axis of x must have k·p = ${k * p} elements`);
  const [l, s, r] = w2;
  if (!isFactor(w2) || l * r !== k * q) fail('w2 must be [l, s, r] with l·r = k·q');
  return [...x.slice(0, -1), l * s];
}
