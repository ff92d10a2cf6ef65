/** The product of a dense layer on every backend: what tfjs's ops make, and each gradient only where it is wanted. */
import * as tf from '@tensorflow/tfjs-core';
import {project} from '../../src/ops/project.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

describeOnBackends('A projection', () => {
  const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);
  const inputs = () => [normal([7, 5], 1), normal([5, 9], 2), normal([9], 3)];
  const ours = (...[x, w, bias]: tf.Tensor[]) => project(x as tf.Tensor2D, w as tf.Tensor2D, bias as tf.Tensor1D);
  const composed = (...[x, w, bias]: tf.Tensor[]) => tf.add(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D), bias);

  it('and its gradients are those of matMul and add', async () => {
    const dy = normal([7, 9], 4);
    const results = (f: typeof composed) => [f(...inputs()), ...tf.grads(f)(inputs(), dy)];
    const [actual, expected] = [results(ours), results(composed)];
    for (const [i, result] of actual.entries()) {
      expect(result.shape).toEqual(expected[i].shape);
      expectWithin(`result ${i}`, await result.data(), await expected[i].data(), 0);
    }
  });

  it('has a kernel for each gradient that is wanted, and no others', async () => {
    const [x, w, bias] = inputs();
    const kernelsOf = async (f: () => tf.TensorContainer) => {
      const {kernels} = await tf.profile(f);
      return kernels.map(({name}) => name).filter((name) => ['BatchMatMul', 'ColumnSums'].includes(name));
    };
    const dy = tf.ones([7, 9]);
    expect(await kernelsOf(() => tf.grad((t: tf.Tensor) => ours(t, w, bias))(x, dy))).toEqual(['BatchMatMul']);
    expect(await kernelsOf(() => tf.grad((t: tf.Tensor) => ours(x, w, t))(bias, dy))).toEqual(['ColumnSums']);
    const all = await kernelsOf(() => tf.grads(ours)([x, w, bias], dy));
    expect(all.sort()).toEqual(['BatchMatMul', 'BatchMatMul', 'ColumnSums']);
  });
});
