/** fusedAdam: its steps against float64, and as an optimizer of tfjs. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {fusedAdam} from '../../src/index.js';
import {expectAdamStepsRight} from '../adam_results.js';
import {describeOnBackends} from '../backends.js';

describeOnBackends('fusedAdam', () => {
  it('takes the steps of the paper', expectAdamStepsRight);

  it('goes on where another left off, also one of tfjs', async () => {
    const train = (optimizer: tf.AdamOptimizer, weight: tf.Variable, steps: number) => {
      for (let i = 0; i < steps; i++)
        optimizer.minimize(() => tf.sum(tf.square(tf.sub(weight, [1, -2, 3]))) as tf.Scalar, false, [weight]);
    };
    const [whole, parts] = [tf.variable(tf.zeros([3])), tf.variable(tf.zeros([3]))];
    const theirs = tf.train.adam(0.1);
    train(theirs, whole, 6);
    const [first, second] = [fusedAdam(0.1), fusedAdam(0.1)];
    train(first, parts, 2);
    const [iterations, ...moments] = await first.getWeights();
    expect(moments.map(({name}) => name)).toEqual([`${parts.name}/m`, `${parts.name}/v`]);
    await second.setWeights([iterations, ...moments.map(({name, tensor}) => ({name, tensor: tensor.clone()}))]);
    train(second, parts, 4);
    const [expected, got] = await Promise.all([whole.data(), parts.data()]);
    for (const [i, value] of got.entries()) expect(Math.abs(value - expected[i])).toBeLessThan(1e-5);
    for (const optimizer of [theirs, first, second]) optimizer.dispose();
    tf.dispose([whole, parts, iterations.tensor]);
  });

  it('leaves a weight without a gradient as it is', async () => {
    const [used, unused] = [tf.variable(tf.ones([2])), tf.variable(tf.ones([2]))];
    const optimizer = fusedAdam();
    optimizer.applyGradients({[used.name]: tf.ones([2]) as tf.Variable, [unused.name]: null as unknown as tf.Variable});
    const [moved, kept] = await Promise.all([used.data(), unused.data()]);
    expect(Math.abs(moved[0] - 0.999)).toBeLessThan(1e-6);
    expect([...kept]).toEqual([1, 1]);
    optimizer.dispose();
    tf.dispose([used, unused]);
  });

  it('serves as the optimizer of a model', async () => {
    const model = tfl.sequential({layers: [tfl.layers.dense({units: 1, inputShape: [2]})]});
    model.compile({optimizer: fusedAdam(0.1), loss: 'meanSquaredError'});
    const {history} = await model.fit(
      tf.tensor2d([
        [1, 0],
        [0, 1],
      ]),
      tf.tensor2d([[2], [-1]]),
      {epochs: 20, verbose: 0},
    );
    expect(history.loss[19]).toBeLessThan(history.loss[0] as number);
    model.dispose();
    model.optimizer.dispose();
  });
});

describe('fusedAdam', () => {
  it('names an argument that is wrong', () => {
    expect(() => fusedAdam(-1)).toThrowError('fusedAdam: learningRate must be at least 0, got -1.');
    expect(() => fusedAdam(0.1, 1)).toThrowError('fusedAdam: beta1 must be at least 0 and below 1, got 1.');
    expect(() => fusedAdam(0.1, 0.9, Number.NaN)).toThrowError(
      'fusedAdam: beta2 must be at least 0 and below 1, got NaN.',
    );
    expect(() => fusedAdam(0.1, 0.9, 0.9, 0)).toThrowError('fusedAdam: epsilon must be above 0, got 0.');
  });
});
