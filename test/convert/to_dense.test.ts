/** Structured matrices as dense ones on every backend: what the dense one multiplies by is what the op does. */
import * as tf from '@tensorflow/tfjs-core';
import {
  type ButterflyToDenseOptions,
  butterflyMultiply,
  butterflyToDense,
  type ComplexPair,
  monarchMatMul,
  monarchToDense,
} from '../../src/index.js';
import {expectWithin, worstError} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const randomPair = (shape: number[]): ComplexPair => ({real: tf.randomNormal(shape), imag: tf.randomNormal(shape)});

/** x [batch, inputs], of real numbers, times a matrix [outputs, inputs]. */
const times = (x: tf.Tensor, dense: tf.Tensor) => tf.matMul(x, dense, false, true);

async function expectSame(what: string, given: tf.Tensor, expected: tf.Tensor): Promise<void> {
  expect(given.shape).withContext(what).toEqual(expected.shape);
  const values = await expected.data();
  const largest = worstError(values, new Float32Array(values.length));
  expectWithin(what, await given.data(), values, 1e-5 * largest);
}

describeOnBackends('butterflyToDense', () => {
  const cases: {options: ButterflyToDenseOptions; shape: [number, number]}[] = [
    {options: {}, shape: [16, 8]},
    {options: {inputSize: 5, outputSize: 11, increasingStride: false}, shape: [11, 5]},
    {options: {transpose: true}, shape: [8, 16]},
    {options: {transpose: true, conjugate: true, inputSize: 9, outputSize: 3}, shape: [3, 9]},
  ];
  const twiddleShape = [2, 2, 3, 4, 2, 2];
  for (const {options, shape} of cases) {
    it(`is what the op multiplies by: ${JSON.stringify(options)}`, async () => {
      const x = tf.randomNormal([3, shape[1]]);
      const twiddle = randomPair(twiddleShape);
      const dense = butterflyToDense(twiddle.real, options);
      expect(dense.shape).toEqual(shape);
      await expectSame('real', times(x, dense), butterflyMultiply(x, twiddle.real, options));
      const complex = butterflyToDense(twiddle, options);
      const product = butterflyMultiply(x, twiddle, options);
      await expectSame('real part', times(x, complex.real), product.real);
      await expectSame('imaginary part', times(x, complex.imag), product.imag);
    });
  }

  it('takes complex64 tensors, and has gradients', async () => {
    const {real, imag} = randomPair(twiddleShape);
    const dense = butterflyToDense(tf.complex(real, imag));
    expect(dense.dtype).toBe('complex64');
    const pair = butterflyToDense({real, imag});
    expect(await dense.data()).toEqual(await tf.complex(pair.real, pair.imag).data());
    expect(tf.grad((twiddle) => tf.sum(butterflyToDense(twiddle)))(real).shape).toEqual(twiddleShape);
  });

  it('passes on what the op says about a twiddle or a size that does not fit', () => {
    expect(() => butterflyToDense(tf.zeros([2, 2]))).toThrowError(/^butterflyMultiply: twiddle must be \[stacks, /);
    expect(() => butterflyToDense(tf.zeros(twiddleShape), {inputSize: 9})).toThrowError(/from 1 to n = 8 elements/);
  });
});

describeOnBackends('monarchToDense', () => {
  it('is what the op multiplies by', async () => {
    const x = tf.randomNormal([3, 10]);
    const [w1, w2] = [randomPair([2, 6, 5]), randomPair([3, 7, 4])];
    const dense = monarchToDense(w1.real, w2.real);
    expect(dense.shape).toEqual([21, 10]);
    await expectSame('real', times(x, dense), monarchMatMul(x, w1.real, w2.real));
    const complex = monarchToDense(w1, w2);
    const product = monarchMatMul(x, w1, w2);
    await expectSame('real part', times(x, complex.real), product.real);
    await expectSame('imaginary part', times(x, complex.imag), product.imag);
  });

  it('passes on what the op says about factors that do not fit', () => {
    expect(() => monarchToDense(tf.zeros([6, 4]), tf.zeros([3, 2, 4]))).toThrowError(/^monarchMatMul: w1 must be/);
    expect(() => monarchToDense(tf.zeros([2, 6, 4]), tf.zeros([3, 2, 5]))).toThrowError(/^monarchMatMul: w2 must be/);
  });
});
