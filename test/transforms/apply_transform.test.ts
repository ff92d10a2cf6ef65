/** applyTransform on every backend: forms of numbers and shapes, inverses, gradients, and clear errors. */
import * as tf from '@tensorflow/tfjs-core';
import {applyTransform, type FastTransform, transforms} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';
import {expectClose, normalValues} from './direct_products.js';

const {dct, fft, fft2d, haarWavelet, ifft, ifft2d, makeTwiddle, toeplitz, transposeTransform} = transforms;

const normal = (shape: number[], seed = 1) => tf.tensor(normalValues(tf.util.sizeFromShape(shape), seed), shape);
const withZeros = (real: tf.Tensor) => ({real, imag: tf.zerosLike(real)});

async function expectSame(given: tf.Tensor, right: tf.Tensor, transform: FastTransform): Promise<void> {
  expect(given.shape).toEqual(right.shape);
  await expectClose(withZeros(given), [await right.data(), new Float32Array(right.size)], transform);
}

describeOnBackends('applyTransform', () => {
  it('gives a pair for complex transforms, and what x is for real ones', async () => {
    const [real, imag] = [normal([2, 8]), normal([2, 8], 2)];
    const x64 = tf.complex(real, imag);
    const ofPair = applyTransform({real, imag}, fft(8));
    const of64 = applyTransform(x64, fft(8));
    expect(await of64.imag.data()).toEqual(await ofPair.imag.data());
    const cosines = applyTransform(x64, dct(8));
    expect([cosines.dtype, cosines.shape]).toEqual(['complex64', [2, 8]]);
    const parts = applyTransform({real, imag}, dct(8));
    expect(await tf.imag(cosines).data()).toEqual(await parts.imag.data());
    expect(await parts.real.data()).toEqual(await applyTransform(real, dct(8)).data());
  });

  it('keeps the axes before', () => {
    expect(applyTransform(tf.ones([8]), dct(8)).shape).toEqual([8]);
    expect(applyTransform(tf.ones([2, 3, 8]), dct(8)).shape).toEqual([2, 3, 8]);
    expect(applyTransform(tf.ones([2, 3, 4, 8]), fft2d(4, 8)).imag.shape).toEqual([2, 3, 4, 8]);
    expect(applyTransform(tf.ones([2, 3]), toeplitz([1, 2], [1, 2, 3])).shape).toEqual([2, 2]);
    expect(applyTransform(tf.zeros([0, 8]), dct(8)).shape).toEqual([0, 8]);
  });

  it("equals tfjs's own fft", async () => {
    const n = 64;
    const x = tf.complex(normal([3, n]), normal([3, n], 2));
    const right = tf.fft(x);
    const parts = [await tf.real(right).data(), await tf.imag(right).data()];
    // On GPUs tfjs adds up n products, with angles of up to 2πn that float32 has rounded.
    await expectClose(applyTransform(x, fft(n)), parts, fft(n), 2 * Math.PI * n * Math.sqrt(n));
  });

  it('with the inverse gives x back', async () => {
    const pairs = [
      [fft(32), ifft(32), normal([3, 32])],
      [fft(32, {unitary: true}), ifft(32, {unitary: true}), normal([3, 32])],
      [fft2d(4, 8), ifft2d(4, 8), normal([3, 4, 8])],
    ] as const;
    for (const [forward, backward, x] of pairs) {
      const back = applyTransform(applyTransform(x, forward), backward);
      const stages = [...forward.stages, ...backward.stages];
      await expectClose(back, [await x.data(), new Float32Array(x.size)], {...forward, stages});
    }
    const wavelet = haarWavelet(32);
    const x = normal([3, 32]);
    await expectSame(applyTransform(applyTransform(x, wavelet), transposeTransform(wavelet)), x, wavelet);
  });

  it('has the transposed transform as its gradient', async () => {
    for (const transform of [dct(8), haarWavelet(8), toeplitz([1, 2, 3], [1, 4, 5, 6, 7])]) {
      const x = normal([2, ...transform.inputShape]);
      const weights = normal([2, ...transform.outputShape], 2);
      const dx = tf.grad((input: tf.Tensor) => applyTransform(input, transform))(x, weights);
      await expectSame(dx, applyTransform(weights, transposeTransform(transform)), transform);
    }
  });

  it('has the conjugate transposed transform as its gradient in complex numbers', async () => {
    const [real, imag, a, b] = [1, 2, 3, 4].map((seed) => normal([2, 8], seed));
    const weighted = (...[re, im]: tf.Tensor[]) => {
      const y = applyTransform({real: re, imag: im}, fft(8));
      return tf.add(tf.sum(tf.mul(y.real, a)), tf.sum(tf.mul(y.imag, b))) as tf.Scalar;
    };
    const [dReal, dImag] = tf.grads(weighted)([real, imag]);
    // The conjugate transpose of the Fourier matrix is n times its inverse.
    const right = applyTransform({real: tf.mul(a, 8), imag: tf.mul(b, 8)}, ifft(8));
    const parts = [await right.real.data(), await right.imag.data()];
    await expectClose({real: dReal, imag: dImag}, parts, fft(8));
  });

  it('takes factors that makeTwiddle gives out as a start of training', () => {
    const [, stage] = fft(8).stages;
    if ('indices' in stage) throw new Error('The second stage of a Fourier transform is its butterfly.');
    const twiddle = makeTwiddle(stage);
    if ('dtype' in twiddle) throw new Error('A Fourier transform is complex.');
    expect([twiddle.real.shape, twiddle.imag.shape]).toEqual([
      [1, 1, 3, 4, 2, 2],
      [1, 1, 3, 4, 2, 2],
    ]);
  });

  it('names what does not fit', () => {
    expect(() => applyTransform(tf.ones([2, 7]), dct(8))).toThrowError(
      'applyTransform: x must have the last axes [8], got shape [2, 7].',
    );
    expect(() => applyTransform(tf.ones([8]), fft2d(2, 4))).toThrowError(
      'applyTransform: x must have the last axes [2, 4], got shape [8].',
    );
    expect(() => applyTransform(tf.ones([8], 'int32'), dct(8))).toThrowError(
      'applyTransform: x must have dtype float32 or complex64, got int32 with shape [8].',
    );
  });
});
