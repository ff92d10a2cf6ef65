/** Dense products and their gradients, judged by sums in float64. */
import * as tf from '@tensorflow/tfjs-core';
import type {DenseMatMulAttrs} from '../src/kernel_names.js';
import {denseMatMul} from '../src/ops/dense_mat_mul.js';
import {expectWithin, worstError} from './attention_results.js';

export interface DenseProductCase extends Partial<DenseMatMulAttrs> {
  rows: number;
  columns: number;
  inner: number;
  hasBias?: boolean;
}

/** a·b + bias, and the gradients of Σ product·dy, of matrices as they are stored. */
function reference(
  {rows, columns, inner, transposeA, transposeB}: DenseProductCase,
  [a, b, dy, bias]: ArrayLike<number>[],
) {
  const [y, da, db] = [dy, a, b].map(({length}) => new Float64Array(length));
  const dBias = new Float64Array(columns);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const place = r * columns + c;
      y[place] = bias ? bias[c] : 0;
      dBias[c] += dy[place];
      for (let i = 0; i < inner; i++) {
        const ofA = transposeA ? i * rows + r : r * inner + i;
        const ofB = transposeB ? c * inner + i : i * columns + c;
        y[place] += a[ofA] * b[ofB];
        da[ofA] += b[ofB] * dy[place];
        db[ofB] += a[ofA] * dy[place];
      }
    }
  }
  return {y, da, db, dBias};
}

export async function expectDenseProductRight(productCase: DenseProductCase): Promise<void> {
  const {rows, columns, inner, transposeA = false, transposeB = false, hasBias = false} = productCase;
  const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);
  const a = normal(transposeA ? [inner, rows] : [rows, inner], 1);
  const b = normal(transposeB ? [columns, inner] : [inner, columns], 2);
  const dy = normal([rows, columns], 3);
  const inputs = hasBias ? [a, b, normal([columns], 4)] : [a, b];
  const multiply = (...[left, right, bias]: tf.Tensor[]): tf.Tensor =>
    denseMatMul(left as tf.Tensor2D, right as tf.Tensor2D, {transposeA, transposeB, bias: bias as tf.Tensor1D});
  const {value, grads} = tf.valueAndGrads(multiply)(inputs, dy);
  const values = await Promise.all([a, b, dy, ...inputs.slice(2)].map((t) => t.data()));
  const expected = Object.entries(reference(productCase, values));
  // A sum rounds once per term, each time by at most a unit in the last place of what it has come to.
  const terms = [inner + 1, columns, rows, rows];
  for (const [i, result] of [value, ...grads].entries()) {
    const [name, right] = expected[i];
    const allowed = terms[i] * 2 ** -24 * worstError(right, new Float64Array(right.length));
    expectWithin(`${name} of ${JSON.stringify(productCase)}`, await result.data(), right, allowed);
  }
  expect([value, ...grads].map(({shape}) => shape)).toEqual([dy, ...inputs].map(({shape}) => shape));
}
