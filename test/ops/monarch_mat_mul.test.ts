/** monarchMatMul on every backend: right in value and gradients, the same every time, and clear about bad input. */
import * as tf from '@tensorflow/tfjs-core';
import {monarchMatMul} from '../../src/index.js';
import {expectWithin, worstError} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {expectMonarchRight, monarchCases} from '../monarch_results.js';

describeOnBackends('monarchMatMul', () => {
  for (const monarchCase of monarchCases) {
    it(`is right: ${JSON.stringify(monarchCase)}`, () => expectMonarchRight(monarchCase));
  }

  const randomPair = (shape: number[]) => ({real: tf.randomNormal(shape), imag: tf.randomNormal(shape)});

  it('takes complex64 tensors and gives them back', async () => {
    const [x, w1, w2] = [randomPair([2, 8]), randomPair([2, 6, 4]), randomPair([3, 2, 4])];
    const [complexX, complexW1, complexW2] = [x, w1, w2].map(({real, imag}) => tf.complex(real, imag));
    const y = monarchMatMul(complexX, complexW1, complexW2);
    expect([y.dtype, y.shape]).toEqual(['complex64', [2, 6]]);
    const pair = monarchMatMul(x, w1, w2);
    const [given, expected] = await Promise.all([y.data(), tf.complex(pair.real, pair.imag).data()]);
    expect(given).toEqual(expected);
  });

  it('takes real numbers beside complex ones', async () => {
    const [x, w1, w2] = [tf.randomNormal([2, 8]), randomPair([2, 6, 4]), tf.randomNormal([3, 2, 4])];
    const y = monarchMatMul(x, w1, w2);
    const parts = await Promise.all([y.real, y.imag].map((part) => part.data()));
    const ofParts = [w1.real, w1.imag].map((part) => monarchMatMul(x, part, w2).data());
    expect(parts).toEqual(await Promise.all(ofParts));
  });

  it('has gradients of gradients', async () => {
    const args = [tf.randomNormal([5, 10]), tf.randomNormal([2, 6, 5]), tf.randomNormal([3, 7, 4])];
    /** The same by ops of tfjs. */
    const composed = (x: tf.Tensor, w1: tf.Tensor, w2: tf.Tensor) => {
      const h = tf.matMul(tf.transpose(tf.reshape(x, [5, 2, 5]), [1, 0, 2]), w1, false, true);
      const permuted = tf.transpose(tf.reshape(tf.transpose(h, [1, 0, 2]), [5, 4, 3]), [2, 0, 1]);
      return tf.reshape(tf.transpose(tf.matMul(permuted, w2, false, true), [1, 2, 0]), [5, 21]);
    };
    const ofGradients = (multiply: typeof composed) => {
      const gradients = tf.grads((...[x, w1, w2]: tf.Tensor[]) => tf.sum(tf.square(multiply(x, w1, w2))));
      return tf.grads((...inputs: tf.Tensor[]) =>
        tf.addN(gradients(inputs).map((gradient) => tf.sum(tf.square(gradient)))),
      )(args);
    };
    const [given, expected] = [ofGradients(monarchMatMul), ofGradients(composed)];
    for (const [i, name] of ['x', 'w1', 'w2'].entries()) {
      const values = await expected[i].data();
      const largest = worstError(values, new Float32Array(values.length));
      expectWithin(name, await given[i].data(), values, 1e-5 * largest);
    }
  });

  it('gives the same bits every time, gradients too', async () => {
    const args = [tf.randomNormal([300, 64]), tf.randomNormal([4, 8, 16]), tf.randomNormal([8, 20, 4])];
    const run = () => {
      const loss = (...[x, w1, w2]: tf.Tensor[]) => tf.sum(tf.square(monarchMatMul(x, w1, w2))) as tf.Scalar;
      const {value, grads} = tf.valueAndGrads(loss)(args);
      return Promise.all([value, ...grads].map((t) => t.data()));
    };
    expect(await run()).toEqual(await run());
  });

  it('takes empty batches', async () => {
    const args = [tf.zeros([0, 8]), tf.ones([2, 6, 4]), tf.ones([3, 2, 4])];
    expect(monarchMatMul(args[0], args[1], args[2]).shape).toEqual([0, 6]);
    const gradients = tf.grads((...[x, w1, w2]: tf.Tensor[]) => monarchMatMul(x, w1, w2))(args, tf.zeros([0, 6]));
    expect(gradients.map(({shape}) => shape)).toEqual(args.map(({shape}) => shape));
    for (const gradient of gradients) expect((await gradient.data()).every((value) => value === 0)).toBeTrue();
  });

  it('names the argument that does not fit, and shows the shapes', () => {
    const [x, w1, w2] = [tf.zeros([5, 8]), tf.zeros([2, 6, 4]), tf.zeros([3, 2, 4])];
    expect(() => monarchMatMul(x, tf.zeros([6, 4]), w2)).toThrowError(
      'monarchMatMul: w1 must be [k, q, p]; got x [5, 8], w1 [6, 4], w2 [3, 2, 4].',
    );
    expect(() => monarchMatMul(tf.zeros([5, 9]), w1, w2)).toThrowError(
      'monarchMatMul: the last axis of x must have k·p = 8 elements; got x [5, 9], w1 [2, 6, 4], w2 [3, 2, 4].',
    );
    expect(() => monarchMatMul(x, w1, tf.zeros([3, 2, 5]))).toThrowError(
      'monarchMatMul: w2 must be [l, s, r] with l·r = k·q; got x [5, 8], w1 [2, 6, 4], w2 [3, 2, 5].',
    );
    expect(() => monarchMatMul(x, tf.zeros([2, 6, 4], 'int32'), w2)).toThrowError(
      'monarchMatMul: w1 must have dtype float32 or complex64, got int32 with shape [2,6,4].',
    );
  });
});
