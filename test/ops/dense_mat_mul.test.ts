/** Dense products on every backend: against float64, and each gradient only where it is wanted. */
import * as tf from '@tensorflow/tfjs-core';
import {denseMatMul} from '../../src/ops/dense_mat_mul.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {expectDenseProductRight} from '../dense_mat_mul_results.js';

describeOnBackends('Dense products', () => {
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      it(`are right where ${transposeA ? 'aᵀ' : 'a'} is multiplied by ${transposeB ? 'bᵀ' : 'b'}`, async () => {
        for (const size of [
          {rows: 7, columns: 9, inner: 5},
          {rows: 100, columns: 68, inner: 72},
          {rows: 67, columns: 45, inner: 129},
        ]) {
          await expectDenseProductRight({...size, transposeA, transposeB});
          await expectDenseProductRight({...size, transposeA, transposeB, hasBias: true});
        }
      });
    }
  }

  it('of matrices that share a long side are right', async () => {
    await expectDenseProductRight({rows: 64, columns: 36, inner: 1100});
    await expectDenseProductRight({rows: 33, columns: 47, inner: 777, transposeA: true});
  });

  it('can be differentiated twice', async () => {
    const [a, b, v] = [1, 2, 3].map((seed) => tf.randomNormal<tf.Rank.R2>([40, 40], 0, 1, 'float32', seed));
    const twice = (product: typeof denseMatMul) =>
      tf.grad((x: tf.Tensor) =>
        tf.sum(tf.mul(tf.grad((y: tf.Tensor) => tf.sum(tf.square(product(y as tf.Tensor2D, b))))(x), v)),
      )(a);
    const expected = twice((x, y) => tf.matMul(x, y));
    expectWithin('second derivative', await twice(denseMatMul).data(), await expected.data(), 1e-3);
  });

  it('have a kernel for each gradient that is wanted, and no others', async () => {
    const [x, w, bias] = [tf.ones([7, 5]), tf.ones([5, 9]), tf.ones([9])];
    const product = (...[a, b, c]: tf.Tensor[]): tf.Tensor =>
      denseMatMul(a as tf.Tensor2D, b as tf.Tensor2D, {bias: c as tf.Tensor1D});
    const kernelsOf = async (f: () => tf.TensorContainer) => {
      const {kernels} = await tf.profile(f);
      return kernels.map(({name}) => name).filter((name) => ['DenseMatMul', 'ColumnSums'].includes(name));
    };
    const dy = tf.ones([7, 9]);
    const forward = 'DenseMatMul';
    expect(await kernelsOf(() => tf.grad((t) => product(t, w, bias))(x, dy))).toEqual([forward, 'DenseMatMul']);
    expect(await kernelsOf(() => tf.grad((t) => product(x, w, t))(bias, dy))).toEqual([forward, 'ColumnSums']);
    const all = await kernelsOf(() => tf.grads(product)([x, w, bias], dy));
    expect(all.sort()).toEqual(['ColumnSums', 'DenseMatMul', 'DenseMatMul', forward]);
  });

  it('of matrices that do not fit one another are refused', () => {
    const [a, b] = [tf.zeros<tf.Rank.R2>([3, 4]), tf.zeros<tf.Rank.R2>([5, 4])];
    expect(() => denseMatMul(a, b)).toThrowError(
      'denseMatMul: a of shape [3,4] has 4 columns, b of shape [5,4] has 5 rows.',
    );
    expect(() => denseMatMul(b, a, {transposeB: true, bias: tf.zeros([4])})).toThrowError(
      'denseMatMul: bias must have shape [3], got [4].',
    );
    expect(denseMatMul(a, b, {transposeB: true}).shape).toEqual([3, 5]);
  });
});
