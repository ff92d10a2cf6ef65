/** layerNorm on every backend: values and gradients against float64; its errors. */
import * as tf from '@tensorflow/tfjs-core';
import {layerNorm} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {expectLayerNormRight, layerNormCases} from '../layer_norm_results.js';

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

describeOnBackends('layerNorm agrees with float64, forward and backward', () => {
  for (const layerNormCase of layerNormCases) {
    it(JSON.stringify(layerNormCase), () => expectLayerNormRight(layerNormCase));
  }
});

describeOnBackends('layerNorm', () => {
  const ofWidth = (width: number): [tf.Tensor1D, tf.Tensor1D] => [tf.ones([width]), tf.zeros([width])];

  it('gives beta where all elements of a row are the same', async () => {
    const [gamma] = ofWidth(3);
    const y = layerNorm(tf.fill([2, 3], 7), gamma, tf.tensor1d([1, 2, 3]));
    // The mean's rounding, over √epsilon.
    expectWithin('y', await y.data(), [1, 2, 3, 1, 2, 3], 1e-3);
  });

  it('takes gradients of some of its inputs', async () => {
    const [x, dy] = [normal([3, 4], 1), normal([3, 4], 2)];
    const [gamma, beta] = [normal([4], 3), normal([4], 4)] as tf.Tensor1D[];
    const [dx, dGamma, dBeta] = tf.grads((...[a, b, c]: tf.Tensor[]) =>
      layerNorm(a, b as tf.Tensor1D, c as tf.Tensor1D),
    )([x, gamma, beta], dy);
    const alone = {
      x: [dx, tf.grad((t) => layerNorm(t, gamma, beta))(x, dy)],
      gamma: [dGamma, tf.grad((t) => layerNorm(x, t as tf.Tensor1D, beta))(gamma, dy)],
      beta: [dBeta, tf.grad((t) => layerNorm(x, gamma, t as tf.Tensor1D))(beta, dy)],
    };
    for (const [name, gradients] of Object.entries(alone)) {
      const [expected, actual] = await Promise.all(gradients.map((gradient) => gradient.data()));
      expect(actual).withContext(name).toEqual(expected);
    }
  });

  it('takes gradients of frozen variables too, where they are asked for', async () => {
    const [x, dy] = [normal([3, 4], 1), normal([3, 4], 2)];
    const [gamma, beta] = [normal([4], 3), normal([4], 4)] as tf.Tensor1D[];
    const frozen = [gamma, beta].map((weight) => tf.variable(weight, false));
    const gradients = (weights: tf.Tensor[]) =>
      tf.grads((...[b, c]: tf.Tensor[]) => layerNorm(x, b as tf.Tensor1D, c as tf.Tensor1D))(weights, dy);
    const [expected, actual] = await Promise.all(
      [[gamma, beta], frozen].map((weights) => Promise.all(gradients(weights).map((gradient) => gradient.data()))),
    );
    expect(actual).toEqual(expected);
    tf.dispose(frozen);
  });

  it('is the same bit for bit each time, with its gradients', async () => {
    const [x, gamma, beta] = [normal([200, 72], 1), normal([72], 2), normal([72], 3)];
    const gradients = () =>
      tf.grads((...[a, b, c]: tf.Tensor[]) => tf.square(layerNorm(a, b as tf.Tensor1D, c as tf.Tensor1D)))([
        x,
        gamma,
        beta,
      ]);
    const [first, second] = await Promise.all(
      [gradients(), gradients()].map((each) => Promise.all(each.map((gradient) => gradient.data()))),
    );
    expect(first).toEqual(second);
  });

  it('takes arrays, and no rows', async () => {
    expect(Array.from(await layerNorm([[1, 3]], [2, 2], [1, 1], {epsilon: 1e-9}).data())).toEqual([-1, 3]);
    const [gamma, beta] = ofWidth(4);
    const x = tf.zeros([0, 3, 4]);
    expect(layerNorm(x, gamma, beta).shape).toEqual([0, 3, 4]);
    const gradients = tf.grads((...[a, b, c]: tf.Tensor[]) => layerNorm(a, b as tf.Tensor1D, c as tf.Tensor1D))([
      x,
      gamma,
      beta,
    ]);
    expect(gradients.map(({shape}) => shape)).toEqual([[0, 3, 4], [4], [4]]);
    expect(Array.from(await gradients[1].data())).toEqual([0, 0, 0, 0]);
  });

  it('says that it has no second-order gradient', () => {
    const [gamma, beta] = ofWidth(4);
    const first = tf.grad((x) => layerNorm(x, gamma, beta));
    expect(() => tf.grad((x) => first(tf.square(x)))(normal([2, 4], 1))).toThrowError(
      'layerNorm has no second-order gradient: its gradient cannot itself be differentiated.',
    );
    // tfjs keeps what the ops before a gradient that failed had saved.
    for (const {saved} of tf.engine().state.activeTape) tf.dispose(saved);
  });

  it('says what is wrong with its arguments', () => {
    const [gamma, beta] = ofWidth(4);
    const x = tf.ones([2, 4]);
    expect(() => layerNorm(tf.ones([2, 4], 'int32'), gamma, beta)).toThrowError(
      'layerNorm: x must be float32 [.., W] with W at least 1; got x int32 [2, 4], gamma float32 [4], beta float32 [4].',
    );
    expect(() => layerNorm(tf.scalar(1), gamma, beta)).toThrowError(/^layerNorm: x must be .* got x float32 \[\]/);
    expect(() => layerNorm(tf.ones([2, 0]), gamma, beta)).toThrowError(
      /^layerNorm: x must be .* got x float32 \[2, 0\]/,
    );
    expect(() => layerNorm(x, tf.ones([3]), beta)).toThrowError(
      /^layerNorm: gamma must be float32 \[W\] = \[4\]; got .* gamma float32 \[3\]/,
    );
    expect(() => layerNorm(x, gamma, tf.ones<tf.Rank.R1>([4], 'int32'))).toThrowError(
      /^layerNorm: beta must be float32 \[W\] = \[4\]; got .* beta int32 \[4\]/,
    );
    expect(() => layerNorm(x, gamma, beta, {epsilon: 0})).toThrowError(
      'layerNorm: epsilon must be a positive number, got 0.',
    );
  });
});
