/** Circular convolutions, and the matrices that are constant along their diagonals. */
import {butterflyForward} from '../../kernels/cpu/butterfly_products.js';
import {toStage, withDiagonal} from './butterfly_block.js';
import type {ButterflyStage, FastTransform} from './fast_transform.js';
import {fourierBlock} from './fourier.js';
import {assertFinite, assertPowerOfTwo, checkedSize} from './transform_arguments.js';

/**
 * Multiplies by the circulant matrix with this first column: y[i] = Σ_j column[(i − j) mod n]·x[j].
 *
 * It is F⁻¹·diag(F·column)·F with the Fourier matrix F = B·P = P·Bᵀ, where P reverses bits. The two P and the diagonal
 * between them are one diagonal in reversed order, merged into a factor. What is left are two blocks, Bᵀ and conj(B)/n.
 *
 * Source: Dao et al., "Learning Fast Algorithms for Linear Transforms Using Butterfly Factorizations" (2019, arXiv
 * 1903.05895).
 *
 * ```js
 * const shift = tf.transforms.circulant([0, 1, 0, 0]);
 * tf.applyTransform([1, 2, 3, 4], shift).print(); // 4, 1, 2, 3
 * ```
 *
 * @param column [n] values, in the number of a power of two from 2 on.
 * @throws Error if there are not as many values, or one is not finite.
 */
export function circulant(column: ArrayLike<number>): FastTransform<'real'> {
  const shape = [checkedSize('circulant', 'column', column)];
  return {field: 'real', inputShape: shape, outputShape: shape, stages: [convolutionStage(column, shape)]};
}

/**
 * Multiplies by the Toeplitz matrix with this first column and first row: y[i] = Σ_j T[i, j]·x[j], where T[i, j] is
 * column[i − j] if i ≥ j, else row[j − i]. row[0] is not read. Any numbers of rows and columns will do: the matrix is a
 * part of a circulant one, whose size is the next power of two from rows + columns − 1 on.
 *
 * ```js
 * const differences = tf.transforms.toeplitz([1, 0, 0], [1, -1, 0, 0]); // [3, 4]
 * const y = tf.applyTransform(tf.randomNormal([5, 4]), differences);
 * console.log(y.shape); // [5, 3]
 * ```
 *
 * @param column [rows] values.
 * @param row [columns] values.
 * @throws Error if there are none, or one is not finite.
 */
export function toeplitz(column: ArrayLike<number>, row: ArrayLike<number>): FastTransform<'real'> {
  const [rows, columns] = [column.length, row.length];
  for (const [argument, values] of Object.entries({column, row})) {
    if (!(values.length > 0)) throw new Error(`toeplitz: ${argument} must have at least one value, got none.`);
    assertFinite('toeplitz', argument, values);
  }
  const n = 2 ** Math.max(1, Math.ceil(Math.log2(rows + columns - 1)));
  const embedded = new Float64Array(n);
  embedded.set(column);
  for (let j = 1; j < columns; j++) embedded[n - j] = row[j];
  const stage = convolutionStage(embedded, [n], {inputSize: columns, outputSize: rows});
  return {field: 'real', inputShape: [columns], outputShape: [rows], stages: [stage]};
}

/**
 * The circular convolution with a filter, y[i] = Σ_j filter[j]·x[(i − j) mod n].
 *
 * ```js
 * const smooth = tf.transforms.circularConvolution([0.5, 0.5], 8); // each element and the one before it
 * console.log(tf.applyTransform(tf.ones([2, 8]), smooth).shape); // [2, 8]
 * ```
 *
 * @param filter up to n values; the others are 0.
 * @param n elements, a power of two from 2 on. Default: as many as the filter has.
 * @throws Error if n is not a power of two from 2 on, or the filter has more than n values or one that is not finite.
 */
export function circularConvolution(filter: ArrayLike<number>, n = filter.length): FastTransform<'real'> {
  const name = 'circularConvolution';
  assertPowerOfTwo(name, 'n', n);
  if (filter.length > n) throw new Error(`${name}: filter must have at most n = ${n} values, got ${filter.length}.`);
  assertFinite(name, 'filter', filter);
  const column = new Float64Array(n);
  column.set(filter);
  return {field: 'real', inputShape: [n], outputShape: [n], stages: [convolutionStage(column, [n])]};
}

/**
 * The circular convolution in two dimensions, y[i, j] = Σ_kl filter[k][l]·x[(i − k) mod n1, (j − l) mod n2], as one
 * butterfly of two blocks and n1·n2 elements.
 *
 * ```js
 * const blur = tf.transforms.circularConvolution2d([[0.25, 0.25], [0.25, 0.25]], [8, 16]);
 * console.log(tf.applyTransform(tf.ones([2, 8, 16]), blur).shape); // [2, 8, 16]
 * ```
 *
 * @param filter up to n1 rows of up to n2 values; the others are 0.
 * @param shape [n1, n2], powers of two from 2 on.
 * @throws Error if n1 or n2 is not a power of two from 2 on, or the filter has more rows or values or one that is not
 *   finite.
 */
export function circularConvolution2d(
  filter: ArrayLike<ArrayLike<number>>,
  shape: readonly [n1: number, n2: number],
): FastTransform<'real'> {
  const name = 'circularConvolution2d';
  shape.forEach((size, axis) => {
    assertPowerOfTwo(name, `shape[${axis}]`, size);
  });
  const [n1, n2] = shape;
  const rows = Array.from(filter);
  const widest = Math.max(0, ...rows.map(({length}) => length));
  if (rows.length > n1 || widest > n2) {
    throw new Error(`${name}: filter must have at most ${n1} × ${n2} values, got ${rows.length} × ${widest}.`);
  }
  const values = new Float64Array(n1 * n2);
  rows.forEach((row, i) => {
    assertFinite(name, `filter[${i}]`, row);
    values.set(row, i * n2);
  });
  return {field: 'real', inputShape: shape, outputShape: shape, stages: [convolutionStage(values, shape)]};
}

/** The circular convolution of arrays of one or two axes, of which the filter has all values. */
function convolutionStage(
  filter: ArrayLike<number>,
  shape: readonly number[],
  sizes: Partial<ButterflyStage> = {},
): ButterflyStage {
  const n = filter.length;
  const forward = fourierBlock(shape, {sign: -1, scale: 1, increasingStride: false});
  const backward = fourierBlock(shape, {sign: 1, scale: 0.5, increasingStride: true});
  const spectrum = butterflyForward({
    sizes: {batch: 1, stacks: 1, blocks: 1, n, factors: Math.log2(n), inputSize: n, outputSize: n, complex: true},
    attrs: {increasingStride: false, outputSize: n, transpose: false, conjugate: false},
    x: {real: filter},
    twiddle: forward.twiddle,
  });
  return toStage([withDiagonal(forward, 'output', spectrum), backward], {...sizes, takesRealPart: true});
}
