/** The element-wise and row-wise ops of a transformer: values and gradients against formulas of tfjs's ops. */
import * as tf from '@tensorflow/tfjs-core';
import {gelu, languageModelLoss} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

type Op = (x: tf.Tensor) => tf.Tensor;

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** The same value, and the same gradient of a weighted sum. */
async function expectSame(actual: Op, expected: Op, x: tf.Tensor): Promise<void> {
  expectWithin('value', await actual(x).data(), await expected(x).data(), 1e-5);
  const weights = normal(actual(x).shape, 9);
  const gradient = (f: Op) => tf.grad((t) => tf.sum(tf.mul(f(t), weights)))(x);
  expectWithin('gradient', await gradient(actual).data(), await gradient(expected).data(), 1e-5);
}

describeOnBackends('Ops of a transformer', () => {
  it('gelu is x·Φ(x)', async () => {
    const formula: Op = (x) => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.div(x, Math.SQRT2)), 1));
    await expectSame((x) => gelu(x), formula, tf.mul(normal([5, 7], 1), 2));
  });

  it('gelu, approximate, is the formula of GPT-2', async () => {
    const formula: Op = (x) => {
      const inner = tf.mul(tf.add(x, tf.mul(tf.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
      return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
    };
    await expectSame((x) => gelu(x, {approximate: true}), formula, tf.mul(normal([5, 7], 1), 2));
  });

  it('languageModelLoss is the mean cross-entropy', async () => {
    const targets = tf.tensor2d([0, 3, 6, 2, 2, 5], [2, 3], 'int32');
    const formula: Op = (x) => {
      const logProbabilities = tf.logSoftmax(tf.reshape(x, [6, 7]));
      const hot = tf.oneHot(tf.reshape(targets, [6]) as tf.Tensor1D, 7, 1, 0, 'float32');
      return tf.neg(tf.mean(tf.sum(tf.mul(logProbabilities, hot), 1)));
    };
    await expectSame((x) => languageModelLoss(targets, x), formula, normal([2, 3, 7], 3));
  });

  it('languageModelLoss stays finite for large logits, and keeps small probabilities', async () => {
    const logits = tf.tensor3d([1e4, -1e4, 0, 300], [1, 2, 2]);
    const targets = tf.tensor2d([1, 0], [1, 2], 'int32');
    expect((await languageModelLoss(targets, logits).data())[0]).toBe((2e4 + 300) / 2);
    const [gradient] = tf.grads((x) => languageModelLoss(targets, x))([logits]);
    expect(Array.from(await gradient.data())).toEqual([0.5, -0.5, -0.5, 0.5]);
  });

  it('languageModelLoss shows shapes that do not fit', () => {
    expect(() => languageModelLoss(tf.zeros([2, 3], 'int32'), tf.zeros([2, 4, 5]))).toThrowError(
      'languageModelLoss: targets must have the shape of logits without the last axis, got [2,3] for logits [2,4,5].',
    );
  });
});
