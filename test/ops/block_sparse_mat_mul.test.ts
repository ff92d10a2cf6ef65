/** blockSparseMatMul on every backend: products and gradients against dense products in float64; its errors. */
import * as tf from '@tensorflow/tfjs-core';
import {type BlockLayout, blockSparseMatMul} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {expectProductRight, makeLayout, productCases} from '../block_sparse_results.js';

describeOnBackends('blockSparseMatMul agrees with float64, forward and backward', () => {
  for (const productCase of productCases) {
    it(JSON.stringify(productCase), () => expectProductRight(productCase));
  }
});

describeOnBackends('blockSparseMatMul', () => {
  const layout = makeLayout({blockSize: 8, density: 0.5});
  const values = () => tf.ones([layout.nnz, 8, 8]);
  afterEach(() => layout.dispose());

  it('has gradients of gradients', async () => {
    const x = tf.randomNormal([5, 24], 0, 1, 'float32', 1);
    const w = tf.randomNormal([layout.nnz, 8, 8], 0, 1, 'float32', 2);
    // d/dx Σ (d/dx Σ (x·w)²)² is linear in x: 16·x·(w·wᵀ)², so twice x gives it twice.
    const once = (y: tf.Tensor) => tf.sum(tf.square(blockSparseMatMul(y, w, {layout, mode: 'dds'})));
    const twice = tf.grad((y) => tf.sum(tf.square(tf.grad(once)(y))));
    const [single, double] = [twice(x), twice(tf.mul(x, 2))];
    const expected = Array.from(await single.data(), (value) => 2 * value);
    expect(expected.some((value) => Math.abs(value) > 1)).toBe(true);
    expectWithin('gradient', await double.data(), expected, 1e-5 * Math.max(...expected.map(Math.abs)));
  });

  it('gives the same bits every time, gradients too', async () => {
    const x = tf.randomNormal([3, 50, 24], 0, 1, 'float32', 1);
    const w = tf.randomNormal([layout.nnz, 8, 8], 0, 1, 'float32', 2);
    const multiply = (y: tf.Tensor, v: tf.Tensor) => tf.square(blockSparseMatMul(y, v, {layout, mode: 'dds'}));
    const run = async () => {
      const [dx, dw] = tf.grads(multiply)([x, w]);
      return [await multiply(x, w).data(), await dx.data(), await dw.data()];
    };
    expect(await run()).toEqual(await run());
  });

  it('says what is wrong with its arguments', () => {
    const x = tf.ones([5, 24]);
    expect(() => blockSparseMatMul(x, values(), {layout: {} as BlockLayout, mode: 'dds'})).toThrowError(
      'blockSparseMatMul: layout must be a BlockLayout, got [object Object].',
    );
    expect(() => blockSparseMatMul(x, values(), {layout, mode: 'ddd' as 'dds'})).toThrowError(
      "blockSparseMatMul: mode must be one of sdd, dsd, dds, got 'ddd'.",
    );
    expect(() => blockSparseMatMul(tf.ones([5, 24], 'int32'), values(), {layout, mode: 'dds'})).toThrowError(
      'blockSparseMatMul: a must have dtype float32, got int32 with shape [5,24].',
    );
    expect(() => blockSparseMatMul(x, values(), {layout, mode: 'dsd'})).toThrowError(
      /^blockSparseMatMul: a must be the values of the layout's live blocks, \[.., 6, 8, 8\]; got a \[5, 24\]/,
    );
    expect(() => blockSparseMatMul(x, values(), {layout, mode: 'dds', transposeB: true})).toThrowError(
      'blockSparseMatMul: a has 24 columns, but b 32 rows, after their transpositions; got a [5, 24], b [6, 8, 8], ' +
        "mode 'dds', transposeB, a layout of 3 × 4 blocks of 8 × 8, 6 live.",
    );
    expect(() => blockSparseMatMul(x, tf.ones([2, 6, 8, 8]), {layout, mode: 'dds'})).toThrowError(
      /^blockSparseMatMul: b must have the leading axes of a, \[\], got \[2\]; got a \[5, 24\]/,
    );
    expect(() => blockSparseMatMul(x, tf.ones([24, 32]), {layout, mode: 'sdd'})).toThrowError(
      /^blockSparseMatMul: the product is 5 × 32, but the layout 24 × 32; got a \[5, 24\]/,
    );
  });
});
