/** languageModelLoss on every backend: value and gradient against float64, and what it makes of unusual input. */
import * as tf from '@tensorflow/tfjs-core';
import {languageModelLoss} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {exactLoss, expectLossRight, lossCases} from '../language_model_loss_results.js';
import {describeInNarrowTextures} from '../narrow_textures.js';

describeOnBackends('languageModelLoss', () => {
  for (const lossCase of lossCases) {
    it(`agrees with float64: ${JSON.stringify(lossCase)}`, () => expectLossRight(lossCase));
  }

  const gradientOf = (targets: tf.Tensor, logits: tf.Tensor) =>
    tf
      .grad((x: tf.Tensor) => languageModelLoss(targets, x))(logits)
      .data<'float32'>();

  it('has the gradient that differences of the loss have', async () => {
    const values = [0.3, -1, 2, 0.5, 0, 4];
    const targets = [2, 1];
    const h = 1e-4;
    const differences = values.map((_, i) => {
      const at = (step: number) =>
        exactLoss(
          values.map((value, j) => (i === j ? value + step : value)),
          targets,
          3,
        ).loss;
      return (at(h) - at(-h)) / (2 * h);
    });
    const gradient = await gradientOf(tf.tensor1d(targets, 'int32'), tf.tensor2d(values, [2, 3]));
    expectWithin('gradient', gradient, differences, 0);
  });

  it('counts a target outside of the vocabulary as the most probable token, without a one-hot', async () => {
    const values = [1, 2, 3, 4, 5, 0, 7, 8, 9];
    const logits = tf.tensor2d(values, [3, 3]);
    const loss = await languageModelLoss(tf.tensor1d([-1, 3, 0], 'int32'), logits).data();
    const inside = exactLoss(values, [2, 1, 0], 3);
    expectWithin('loss', loss, [inside.loss], 0);
    const expected = inside.gradient.map((value, i) => value + (i === 2 || i === 4 ? 1 / 3 : 0));
    expectWithin('gradient', await gradientOf(tf.tensor1d([-1, 3, 0], 'int32'), logits), expected, 0);
  });

  it('takes targets of other dtypes, as loss functions of models get them', async () => {
    const logits = tf.randomNormal([2, 3, 5], 0, 1, 'float32', 1);
    const targets = tf.tensor2d([0, 1, 2, 3, 4, 0], [2, 3], 'int32');
    const [asInt, asFloat] = [targets, tf.cast(targets, 'float32')].map((t) => languageModelLoss(t, logits).data());
    expect(await asFloat).toEqual(await asInt);
  });

  it('is the same bit for bit each time', async () => {
    const logits = tf.randomNormal([37, 301], 0, 1, 'float32', 1);
    const targets = tf.zeros([37], 'int32');
    const once = () => Promise.all([languageModelLoss(targets, logits).data(), gradientOf(targets, logits)]);
    expect(await once()).toEqual(await once());
  });

  it('leaves zeros beside odd sizes, where tfjs on WebGL multiplies them', async () => {
    const targets = tf.zeros([5], 'int32');
    const logits = tf.zeros([5, 3]);
    const dLogits = tf.grad((x: tf.Tensor) => languageModelLoss(targets, x))(logits) as tf.Tensor2D;
    const products = await tf.matMul(dLogits, dLogits, true).data();
    const [hot, cold] = [-2 / 15, 1 / 15];
    const of = (a: number, b: number) => 5 * a * b;
    const expected = [hot, cold, cold].flatMap((a) => [hot, cold, cold].map((b) => of(a, b)));
    expectWithin('products', products, expected, 0);
  });

  it('of nothing is not a number, and has a gradient of nothing', async () => {
    const targets = tf.zeros([0], 'int32');
    expect(Array.from(await languageModelLoss(targets, tf.zeros([0, 3])).data())).toEqual([Number.NaN]);
    expect(tf.grad((x: tf.Tensor) => languageModelLoss(targets, x))(tf.zeros([0, 3])).shape).toEqual([0, 3]);
  });

  it('keeps neither what it makes of the logits nor anything as large', async () => {
    const logits = tf.randomNormal([16, 64]);
    const targets = tf.zeros([16], 'int32');
    const before = tf.memory().numBytes;
    const {value, grad} = tf.valueAndGrad((x: tf.Tensor) => languageModelLoss(targets, x))(logits);
    expect(tf.memory().numBytes).toBe(before + 4 + 4 * 16 * 64);
    tf.dispose([value, grad]);
  });

  it('says what does not fit', () => {
    expect(() => languageModelLoss(tf.zeros([3], 'int32'), tf.zeros([4, 5]))).toThrowError(
      'languageModelLoss: targets must have the shape of logits without the last axis, got [3] for logits [4,5].',
    );
    expect(() => languageModelLoss(tf.zeros([], 'int32'), tf.zeros([5]))).toThrowError(/got \[\] for logits \[5\]\.$/);
  });

  it('says that there are no second-order gradients', () => {
    const first = tf.grad((x: tf.Tensor) => languageModelLoss(tf.zeros([2], 'int32'), x));
    expect(() => tf.grad((x: tf.Tensor) => tf.sum(first(x)))(tf.zeros([2, 3]))).toThrowError(
      /^languageModelLoss has no second-order gradient/,
    );
    // tfjs keeps what the ops before a gradient that failed had saved.
    for (const {saved} of tf.engine().state.activeTape ?? []) tf.dispose(saved);
  });
});

describeInNarrowTextures('languageModelLoss', 64, () => {
  it('finds its way', () => expectLossRight({places: [9], vocabSize: 1301}));

  it('says what does not fit', () => {
    expect(() => languageModelLoss(tf.zeros([200], 'int32'), tf.zeros([200, 200]))).toThrowError(
      'languageModelLoss: logits of shape [200,200] needs 10000 texels, but a texture of this WebGL device holds 64 × 64 = 4096.',
    );
  });
});
