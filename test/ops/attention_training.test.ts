/** flashAttention inside what people train with: tidies, every kind of gradient, optimizers, profiles, layers. */

import {initializers, layers, type Sequential, sequential, train} from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs-core';
import {flashAttention, flashAttentionWithLse} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const shape: [number, number, number, number] = [1, 2, 9, 16];
const random = (seed: number) => tf.randomNormal<tf.Rank.R4>(shape, 0, 1, 'float32', seed);

function loss(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor): tf.Scalar {
  return tf.sum(tf.square(flashAttention(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, {causal: true})));
}

describeOnBackends('Training with flashAttention', () => {
  it('keeps nothing but the result of a tidy', () => {
    const [q, k, v] = [1, 2, 3].map(random);
    const {numTensors} = tf.memory();
    const output = tf.tidy(() => flashAttention(tf.mul(q, 2), k, v));
    expect(tf.memory().numTensors).toBe(numTensors + 1);
    output.dispose();
    expect(tf.memory().numTensors).toBe(numTensors);
  });

  it('gives tf.grad, tf.grads, tf.valueAndGrads and tf.variableGrads the same gradients', async () => {
    const [q, k, v] = [1, 2, 3].map(random);
    const grads = tf.grads(loss)([q, k, v]);
    const {value, grads: withValue} = tf.valueAndGrads(loss)([q, k, v]);
    const single = tf.grad((x) => loss(q, x, v))(k);
    const variables = [q, k, v].map((t) => tf.variable(t));
    const {value: sameValue, grads: byName} = tf.variableGrads(() => loss(variables[0], variables[1], variables[2]));
    expectWithin('value', await value.data(), await sameValue.data(), 0);
    expectWithin('tf.grad', await single.data(), await grads[1].data(), 0);
    for (const [i, variable] of variables.entries()) {
      expectWithin('tf.valueAndGrads', await withValue[i].data(), await grads[i].data(), 0);
      expectWithin('tf.variableGrads', await byName[variable.name].data(), await grads[i].data(), 0);
      variable.dispose();
    }
  });

  it('adds up the gradients of a tensor that is q, k and v at once', async () => {
    const x = random(1);
    const [dq, dk, dv] = tf.grads(loss)([x, tf.clone(x), tf.clone(x)]);
    const together = tf.grad((t) => loss(t, t, t))(x);
    expectWithin('gradient', await together.data(), await tf.addN([dq, dk, dv]).data(), 0);
  });

  it('lowers a loss by optimizer steps, and leaks nothing', async () => {
    const [k, v, target] = [2, 3, 4].map(random);
    const q = tf.variable(random(1));
    const bias = tf.variable(tf.zeros([2, 9, 9]));
    const slopes = tf.variable(tf.tensor1d([0.1, 0.2]));
    const optimizer = train.sgd(2);
    const step = () =>
      optimizer.minimize(
        () => {
          const output = flashAttention(q as tf.Tensor4D, k, v, {bias, alibiSlopes: slopes as tf.Tensor1D});
          return tf.mean(tf.squaredDifference(output, target));
        },
        true,
        [q, bias, slopes],
      ) as tf.Scalar;
    const losses: number[] = [];
    let tensors = 0;
    for (let i = 0; i < 6; i++) {
      const value = step();
      losses.push((await value.data())[0]);
      value.dispose();
      if (i === 0) tensors = tf.memory().numTensors;
    }
    expect(tf.memory().numTensors).toBe(tensors);
    losses.slice(1).forEach((value, i) => {
      expect(value).toBeLessThan(losses[i]);
    });
    optimizer.dispose();
    tf.dispose([q, bias, slopes]);
  });

  it('differentiates through lse', async () => {
    const [q, k, v] = [1, 2, 3].map(random);
    const ofLse = tf.grads((a, b, c) =>
      tf.sum(flashAttentionWithLse(a as tf.Tensor4D, b as tf.Tensor4D, c as tf.Tensor4D).lse),
    )([q, k, v]);
    const formula = tf.grads((a, b) => tf.sum(tf.logSumExp(tf.mul(tf.matMul(a, b, false, true), 1 / 4), 3)))([q, k]);
    expectWithin('dq', await ofLse[0].data(), await formula[0].data(), 0);
    expectWithin('dk', await ofLse[1].data(), await formula[1].data(), 0);
    expectWithin('dv', await ofLse[2].data(), new Float32Array(ofLse[2].size), 0);
  });

  it('says that there are no second-order gradients', () => {
    const [q, k, v] = [1, 2, 3].map(random);
    const first = (x: tf.Tensor) => tf.grad((y) => loss(y, k, v))(x);
    expect(() => tf.grad((x) => tf.sum(first(x)))(q)).toThrowError(/second-order/i);
    // tfjs keeps what the ops before a gradient that failed had saved.
    for (const {saved} of tf.engine().state.activeTape) tf.dispose(saved);
  });

  it('shows up in tf.profile', async () => {
    const [q, k, v] = [1, 2, 3].map(random);
    const {kernels} = await tf.profile(() => flashAttention(q, k, v));
    expect(kernels.map(({name}) => name)).toContain('FlashAttention');
  });

  it('trains in a layer by model.fit', async () => {
    const model = attentionModel();
    const optimizer = train.adam(0.05);
    model.compile({optimizer, loss: 'meanSquaredError'});
    const x = tf.randomNormal([8, 6, 8], 0, 1, 'float32', 5);
    const y = tf.mean(x, 1);
    const {history} = await model.fit(x, y, {epochs: 4, batchSize: 8, shuffle: false, verbose: 0});
    expect(history.loss[3] as number).toBeLessThan(history.loss[0] as number);
    model.dispose();
    optimizer.dispose();
    tf.dispose([x, y]);
  });
});

/** A sequence's projections attend to one another; their mean is the output. */
function attentionModel(): Sequential {
  const model = sequential();
  model.add(layers.dense({units: 48, inputShape: [6, 8], kernelInitializer: 'zeros', useBias: true}));
  model.layers[0].setWeights([tf.randomNormal([8, 48], 0, 0.5, 'float32', 6), tf.zeros([48])]);
  model.add(new SelfAttention());
  model.add(layers.globalAveragePooling1d({}));
  model.add(layers.dense({units: 8, kernelInitializer: initializers.glorotUniform({seed: 7})}));
  return model;
}

/** [batch, S, 3·2·8] → [batch, S, 2·8]: two heads. */
class SelfAttention extends layers.Layer {
  static className = 'SelfAttention';

  override computeOutputShape([batch, rows]: number[]): number[] {
    return [batch, rows, 16];
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = Array.isArray(inputs) ? inputs[0] : inputs;
      const [batch, rows] = x.shape;
      const [q, k, v] = tf.split(tf.reshape(x, [batch, rows, 6, 8]), 3, 2) as tf.Tensor4D[];
      return tf.reshape(flashAttention(q, k, v, {order: 'BSHD'}), [batch, rows, 16]);
    });
  }
}
