/** blockSparseSoftmax on every backend: probabilities and gradients against dense rows in float64; its errors. */
import * as tf from '@tensorflow/tfjs-core';
import {BlockLayout, blockSparseMatMul, blockSparseSoftmax, flashAttention} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {makeLayout} from '../block_sparse_results.js';
import {expectSoftmaxRight, softmaxCases} from '../block_sparse_softmax_results.js';

describeOnBackends('blockSparseSoftmax agrees with float64, forward and backward', () => {
  for (const softmaxCase of softmaxCases) {
    it(JSON.stringify(softmaxCase), () => expectSoftmaxRight(softmaxCase));
  }
});

describeOnBackends('blockSparseSoftmax', () => {
  const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

  it('has derivatives of any order', async () => {
    const layout = BlockLayout.dense(6, 8, [3, 8]);
    const scale = 0.7;
    const [x, weights] = [normal([2, 3, 8], 1), normal([2, 3, 8], 2)];
    // Each derivative is that of the sum of the one before, weighed: along the weights, then.
    type Fn = (y: tf.Tensor) => tf.Tensor;
    const derivative = (f: Fn, order: number): Fn =>
      order === 0
        ? f
        : derivative(
            tf.grad((y) => tf.sum(tf.mul(f(y), weights))),
            order - 1,
          );
    const [values, along] = [await x.data(), await weights.data()];
    const first = (step: number) =>
      softmaxGradient(
        Float64Array.from(values, (v, i) => v + step * along[i]),
        along,
        scale,
      );
    const h = 1e-3;
    const [before, at, after] = [first(-h), first(0), first(h)];
    const expected = [
      at,
      at.map((_, i) => (after[i] - before[i]) / (2 * h)),
      at.map((value, i) => (after[i] - 2 * value + before[i]) / h ** 2),
    ];
    for (const order of [1, 2, 3]) {
      const actual = derivative((y) => blockSparseSoftmax(y, {layout, scale}), order)(x);
      expect(Math.max(...expected[order - 1].map(Math.abs))).toBeGreaterThan(0.01);
      expectWithin(`derivative ${order}`, await actual.data(), expected[order - 1], 0);
    }
    layout.dispose();
  });

  it('makes attention by hand', async () => {
    const layout = BlockLayout.butterflyAttention(64, {blockSize: 8, causal: true});
    const [q, k, v] = [1, 2, 3].map((seed) => normal([1, 2, 64, 16], seed) as tf.Tensor4D);
    const options = {layout, scale: 0.25, causal: true};
    const scores = blockSparseMatMul(q, k, {layout, mode: 'sdd', transposeB: true});
    const output = blockSparseMatMul(blockSparseSoftmax(scores, options), v, {layout, mode: 'dsd'});
    const live = layout.toMask() as boolean[][];
    const mask = Array.from({length: 64}, (_, i) =>
      Array.from({length: 64}, (__, j) => Number(live[i >> 3][j >> 3] && j <= i)),
    );
    const expected = flashAttention(q, k, v, {scale: 0.25, mask: tf.tensor4d([[mask]], undefined, 'bool')});
    expectWithin('output', await output.data(), await expected.data(), 0);
    layout.dispose();
  });

  it('is the same bit for bit each time', async () => {
    const layout = makeLayout({blockSize: 16, density: 1});
    const x = normal([layout.nnz, 16, 16], 1);
    const [first, second] = [blockSparseSoftmax(x, {layout}), blockSparseSoftmax(x, {layout})];
    expect(Array.from(await first.data())).toEqual(Array.from(await second.data()));
    layout.dispose();
  });

  it('says what is wrong with its arguments', () => {
    const layout = makeLayout({blockSize: 8, density: 0.5});
    const values = tf.ones([layout.nnz, 8, 8]);
    expect(() => blockSparseSoftmax(values, {layout: {} as BlockLayout})).toThrowError(
      'blockSparseSoftmax: layout must be a BlockLayout, got [object Object].',
    );
    expect(() => blockSparseSoftmax(values, {layout, scale: Number.NaN})).toThrowError(
      'blockSparseSoftmax: scale must be a finite number, got NaN.',
    );
    expect(() => blockSparseSoftmax(tf.ones([2, 8, 8]), {layout})).toThrowError(
      "blockSparseSoftmax: values must be those of the layout's live blocks, float32 [.., 6, 8, 8], got float32 [2, 8, 8].",
    );
    expect(() => blockSparseSoftmax(tf.ones([6, 8, 8], 'int32'), {layout})).toThrowError(/got int32 \[6, 8, 8\]\.$/);
  });
});

/** scale·P∘(w − Σ P∘w) for rows of 8, in float64. */
function softmaxGradient(values: Float64Array, weights: ArrayLike<number>, scale: number): Float64Array {
  const powers = values.map((value) => Math.exp(scale * value));
  const rowSum = (of: Float64Array, i: number) => of.subarray(i - (i % 8), i - (i % 8) + 8).reduce((a, b) => a + b);
  const probabilities = powers.map((power, i) => power / rowSum(powers, i));
  const weighed = probabilities.map((probability, i) => probability * weights[i]);
  return probabilities.map((probability, i) => scale * (weighed[i] - probability * rowSum(weighed, i)));
}
