/** gelu on every backend: values and gradients against float64, how exact they are, and what it says about bad input. */
import * as tf from '@tensorflow/tfjs-core';
import {gelu} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';
import {exactGelu, exactSlope, expectGeluRight, geluCases} from '../gelu_results.js';
import {describeInNarrowTextures} from '../narrow_textures.js';

describeOnBackends('gelu', () => {
  for (const geluCase of geluCases) {
    it(`agrees with float64: ${JSON.stringify(geluCase)}`, () => expectGeluRight(geluCase));
  }

  for (const approximate of [false, true]) {
    it(`is as exact as float32 allows, for negative x too: ${approximate ? 'approximate' : 'exact'}`, async () => {
      const x = Float32Array.from({length: 401}, (_, i) => -8 + i / 25).filter((value) => value !== 0);
      const y = await gelu(tf.tensor(x), {approximate}).data();
      // WGSL allows exp(z) an error of 3 + 2·|z| units in the last place, and z is rounded itself.
      const exponent = (value: number) =>
        value > 0 ? 0 : approximate ? 1.6 * value + 0.0714 * value ** 3 : 0.5 * value ** 2;
      const units = (value: number, i: number) =>
        Math.abs(y[i] / exactGelu(value, approximate) - 1) / 2 ** -23 / (1 + Math.abs(exponent(value)));
      expect(Math.max(...Array.from(x, units))).toBeLessThan(4);
    });

    it(`has no overflow, neither in its gradient: ${approximate ? 'approximate' : 'exact'}`, async () => {
      const x = tf.tensor1d([1e30, -1e30, 3e38, -3e38, 100, -100, 12, -20, 0, -0]);
      const [y, dx] = [gelu(x, {approximate}), tf.grad((t) => gelu(t, {approximate}))(x)];
      const round = (values: ArrayLike<number>) => Array.from(values, (value) => Math.fround(value) + 0);
      expect(round(await y.data())).toEqual(round([1e30, 0, 3e38, 0, 100, 0, 12, 0, 0, 0]));
      expect(round(await dx.data())).toEqual([1, 0, 1, 0, 1, 0, 1, 0, 0.5, 0.5]);
    });
  }

  it('has each gradient without the other', async () => {
    const x = tf.randomNormal([3, 5]);
    const bias = tf.randomNormal([5]) as tf.Tensor1D;
    const f = (a: tf.Tensor, b: tf.Tensor) => gelu(a, {bias: b as tf.Tensor1D});
    const before = tf.memory().numTensors;
    const both = tf.grads(f)([x, bias]);
    const ofX = tf.grad((a: tf.Tensor) => f(a, bias))(x);
    const ofBias = tf.grad((b: tf.Tensor) => f(x, b))(bias);
    expect(tf.memory().numTensors).toBe(before + 4);
    expect(await ofX.data()).toEqual(await both[0].data());
    expect(await ofBias.data()).toEqual(await both[1].data());
  });

  it('leaves zeros beside odd sizes, where tfjs on WebGL multiplies them', async () => {
    const bias = tf.tensor1d([5, 5, 5]);
    const [a, b] = [tf.ones([5, 3]), tf.ones([5, 3])].map((x) => gelu(x, {bias}) as tf.Tensor2D);
    const [product] = await tf.matMul(a, b, true).data();
    expect(product).toBeCloseTo(5 * exactGelu(6, false) ** 2, 3);
  });

  it('takes empty tensors', async () => {
    const x = tf.zeros([0, 4]);
    const f = (a: tf.Tensor, b: tf.Tensor) => gelu(a, {bias: b as tf.Tensor1D});
    const [dx, dBias] = tf.grads(f)([x, tf.ones([4])], tf.zeros([0, 4]));
    expect([gelu(x).shape, gelu(tf.zeros([0])).shape, dx.shape]).toEqual([[0, 4], [0], [0, 4]]);
    expect(Array.from(await dBias.data())).toEqual([0, 0, 0, 0]);
    const ofNoColumns = tf.grads(f)([tf.zeros([2, 0]), tf.zeros([0])], tf.zeros([2, 0]));
    expect(ofNoColumns.map(({shape}) => shape)).toEqual([[2, 0], [0]]);
  });

  it('says that there are no second-order gradients', () => {
    const first = tf.grad((x: tf.Tensor) => gelu(x));
    expect(() => tf.grad((x: tf.Tensor) => tf.sum(first(x)))(tf.zeros([2, 3]))).toThrowError(
      /^gelu has no second-order gradient/,
    );
    // tfjs keeps what the ops before a gradient that failed had saved.
    for (const {saved} of tf.engine().state.activeTape ?? []) tf.dispose(saved);
  });

  it('takes arrays, and says what is wrong with its arguments', () => {
    expect(gelu([[1, 2]] as unknown as tf.Tensor).shape).toEqual([1, 2]);
    expect(() => gelu(tf.ones([2, 3]), {bias: tf.ones([2])})).toThrowError(
      'gelu: bias must have the shape [3] of the last axis of x, got [2] for x [2,3].',
    );
    expect(() => gelu(tf.ones([2, 3]), {bias: tf.ones([1, 3]) as unknown as tf.Tensor1D})).toThrowError(
      /got \[1,3\] for x \[2,3\]\.$/,
    );
    expect(() => gelu(tf.ones([2], 'int32'))).toThrowError(/must be float32 tensor, but got int32/);
    expect(() => gelu(tf.ones([2]), {bias: tf.ones([2], 'int32')})).toThrowError(/'bias'.* must be float32 tensor/);
  });
});

describeInNarrowTextures('gelu', 64, () => {
  it('finds its way', () => expectGeluRight({shape: [2, 31, 77], bias: true}));

  it('says what does not fit', () => {
    expect(() => gelu(tf.zeros([200, 200]))).toThrowError(
      'gelu: x of shape [200,200] needs 10000 texels, but a texture of this WebGL device holds 64 × 64 = 4096.',
    );
  });
});

describeOnBackends(
  'gelu on the CPU',
  () => {
    it('is exact but for the rounding of the result', async () => {
      const x = tf.linspace(-10, 10, 2001);
      const values = await x.data();
      for (const approximate of [false, true]) {
        const y = await gelu(x, {approximate}).data();
        const dx = await tf
          .grad((t: tf.Tensor) => gelu(t, {approximate}))(x)
          .data();
        const errors = Array.from(values, (value, i) => ({
          y: Math.abs(y[i] - exactGelu(value, approximate)) / Math.max(Math.abs(exactGelu(value, approximate)), 1e-300),
          dx: Math.abs(dx[i] - exactSlope(value, approximate)),
        }));
        expect(Math.max(...errors.map((error) => error.y))).toBeLessThan(1.1 * 2 ** -24);
        expect(Math.max(...errors.map((error) => error.dx))).toBeLessThan(1.1 * 2 ** -24);
      }
    });
  },
  {predicate: ({backendName}) => backendName === 'cpu'},
);
