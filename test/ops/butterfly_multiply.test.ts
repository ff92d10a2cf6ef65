/** butterflyMultiply on every backend: right in value and gradients, the same every time, and clear about bad input. */
import * as tf from '@tensorflow/tfjs-core';
import {butterflyMultiply} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';
import {butterflyCases, expectButterflyRight} from '../butterfly_results.js';

describeOnBackends('butterflyMultiply', () => {
  for (const butterflyCase of butterflyCases) {
    it(`is right: ${JSON.stringify(butterflyCase)}`, () => expectButterflyRight(butterflyCase));
  }

  it('takes complex64 tensors and gives them back', async () => {
    const [real, imag] = [tf.randomNormal([2, 4]), tf.randomNormal([2, 4])];
    const twiddle = tf.complex(tf.randomNormal([1, 1, 2, 2, 2, 2]), tf.randomNormal([1, 1, 2, 2, 2, 2]));
    const y = butterflyMultiply(tf.complex(real, imag), twiddle);
    expect([y.dtype, y.shape]).toEqual(['complex64', [2, 4]]);
    const pair = butterflyMultiply({real, imag}, {real: tf.real(twiddle), imag: tf.imag(twiddle)});
    const [a, b] = await Promise.all([y.data(), tf.complex(pair.real, pair.imag).data()]);
    expect(a).toEqual(b);
  });

  it('takes real numbers beside complex ones', async () => {
    const x = tf.randomNormal([3, 4]);
    const twiddle = {real: tf.randomNormal([1, 1, 2, 2, 2, 2]), imag: tf.randomNormal([1, 1, 2, 2, 2, 2])};
    const y = butterflyMultiply(x, twiddle);
    const [real, imag] = await Promise.all([y.real.data(), y.imag.data()]);
    const ofReal = await butterflyMultiply(x, twiddle.real, {}).data();
    expect(real.length).toBe(ofReal.length);
    expect(imag.some((value) => value !== 0)).toBeTrue();
  });

  for (const shape of [
    {x: [300, 64], twiddle: [1, 2, 6, 32, 2, 2]},
    {x: [2100, 8], twiddle: [1, 2, 3, 4, 2, 2]},
  ]) {
    it(`gives the same bits every time, gradients too: x [${shape.x}]`, async () => {
      const [x, twiddle] = [tf.randomNormal(shape.x), tf.randomNormal(shape.twiddle)];
      const run = async () => {
        const {value, grads} = tf.valueAndGrads((...[a, b]: tf.Tensor[]) => tf.sum(tf.square(butterflyMultiply(a, b))))(
          [x, twiddle],
        );
        return Promise.all([value, ...grads].map((t) => t.data()));
      };
      expect(await run()).toEqual(await run());
    });
  }

  it('takes empty batches', () => {
    const [x, twiddle] = [tf.zeros([0, 8]), tf.zeros([1, 1, 3, 4, 2, 2])];
    expect(butterflyMultiply(x, twiddle).shape).toEqual([0, 8]);
    const [dx, dTwiddle] = tf.grads((...[a, b]: tf.Tensor[]) => butterflyMultiply(a, b))(
      [x, twiddle],
      tf.zeros([0, 8]),
    );
    expect([dx.shape, dTwiddle.shape]).toEqual([x.shape, twiddle.shape]);
  });

  it('names the argument that does not fit, and shows the shapes', () => {
    const [x, twiddle] = [tf.zeros([5, 8]), tf.zeros([2, 1, 3, 4, 2, 2])];
    expect(() => butterflyMultiply(x, tf.zeros([1, 1, 3, 8, 2, 2]))).toThrowError(
      'butterflyMultiply: twiddle must be [stacks, blocks, log2 n, n / 2, 2, 2] for a power of two n; got x [5, 8], twiddle [1, 1, 3, 8, 2, 2].',
    );
    expect(() => butterflyMultiply(tf.zeros([5, 9]), twiddle)).toThrowError(
      'butterflyMultiply: the last axis of x must have from 1 to n = 8 elements; got x [5, 9], twiddle [2, 1, 3, 4, 2, 2].',
    );
    expect(() => butterflyMultiply(tf.zeros([5, 17]), twiddle, {transpose: true})).toThrowError(
      /the last axis of x must have from 1 to stacks·n = 16 elements/,
    );
    expect(() => butterflyMultiply(x, twiddle, {outputSize: 17})).toThrowError(
      /outputSize must be an integer from 1 to stacks·n = 16, got 17; got x \[5, 8\]/,
    );
    expect(() => butterflyMultiply(tf.zeros([5, 8], 'int32'), twiddle)).toThrowError(
      'butterflyMultiply: x must have dtype float32 or complex64, got int32 with shape [5,8].',
    );
    expect(() => butterflyMultiply({real: x, imag: tf.zeros([5, 7])}, twiddle)).toThrowError(
      'butterflyMultiply: x must have real and imaginary parts of one shape, got [5,8] and [5,7].',
    );
  });

  it('says that there are no second-order gradients', () => {
    const twiddle = tf.ones([1, 1, 2, 2, 2, 2]);
    const inner = tf.grad((x: tf.Tensor) => tf.sum(tf.square(butterflyMultiply(x, twiddle))));
    expect(() => tf.grad((x: tf.Tensor) => tf.sum(inner(x)))(tf.ones([1, 4]))).toThrowError(
      /^butterflyMultiply has no second-order gradient/,
    );
    // tfjs keeps what the ops before a gradient that failed had saved.
    for (const {saved} of tf.engine().state.activeTape) tf.dispose(saved);
  });
});
