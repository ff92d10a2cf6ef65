/** The kernels of block-diagonal products on every backend, in every order of input and output, and their gradients. */
import * as tf from '@tensorflow/tfjs-core';
import type {BlockDiagonalSizes} from '../../kernels/block_diagonal_sizes.js';
import {runBlockDiagonalMatMul} from '../../src/gradients/block_diagonal_gradient.js';
import {monarchMatMul} from '../../src/index.js';
import {
  BlockDiagonalBackward,
  BlockDiagonalMatMul,
  type BlockDiagonalMatMulAttrs,
  BlockDiagonalWeights,
  type BlockOrder,
} from '../../src/kernel_names.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {expectProductsRight, random} from '../block_diagonal_results.js';

const orders: BlockOrder[] = ['blocked', 'interleaved'];
const everyCase = orders.flatMap((input) =>
  orders.flatMap((output) => [false, true].map((transpose): BlockDiagonalMatMulAttrs => ({input, output, transpose}))),
);
const someSizes: BlockDiagonalSizes[] = [
  {batch: 3, blocks: 4, outer: 5, inner: 6},
  {batch: 2, blocks: 3, outer: 6, inner: 5},
  {batch: 5, blocks: 3, outer: 7, inner: 3},
  // Loops that take several steps at a time, and what is left of them.
  {batch: 21, blocks: 2, outer: 18, inner: 20},
  {batch: 18, blocks: 3, outer: 22, inner: 17},
];

// Ops register the fallback on backends that have no kernel.
const registerFallback = () => tf.dispose(monarchMatMul(tf.ones([1, 1]), tf.ones([1, 1, 1]), tf.ones([1, 1, 1])));

describeOnBackends('Block-diagonal products', () => {
  beforeEach(registerFallback);

  for (const attrs of everyCase) {
    it(`are right: ${JSON.stringify(attrs)}`, async () => {
      for (const sizes of someSizes) await expectProductsRight(attrs, sizes);
    });
  }

  it('have each gradient without the other', async () => {
    for (const transpose of [false, true]) {
      const attrs: BlockDiagonalMatMulAttrs = {input: 'blocked', output: 'interleaved', transpose};
      const x = random([5, 3 * 6]);
      const w = random(transpose ? [3, 6, 7] : [3, 7, 6]);
      const dy = random([5, 3 * 7]);
      const before = tf.memory().numTensors;
      const both = tf.grads((...[a, b]: tf.Tensor[]) => runBlockDiagonalMatMul(a, b, attrs))([x, w], dy);
      const ofX = tf.grad((a: tf.Tensor) => runBlockDiagonalMatMul(a, w, attrs))(x, dy);
      const ofW = tf.grad((b: tf.Tensor) => runBlockDiagonalMatMul(x, b, attrs))(w, dy);
      expect(tf.memory().numTensors).toBe(before + 4);
      const [expectedX, expectedW] = await Promise.all(both.map((t) => t.data()));
      expect(await ofX.data()).toEqual(expectedX);
      expect(await ofW.data()).toEqual(expectedW);
    }
  });

  it('can be multiplied by tfjs, which on WebGL reads padding', async () => {
    const product = (...shape: number[]) =>
      runBlockDiagonalMatMul(random([shape[0], 6]), random([1, shape[1], 6]), everyCase[0]) as tf.Tensor2D;
    const [a, b] = [product(5, 3), product(5, 4)];
    const copies = await Promise.all(
      [a, b].map(async (t) => tf.tensor2d(await t.data<'float32'>(), t.shape as [number, number])),
    );
    const expected = await tf.matMul(copies[0], copies[1], true).data();
    expectWithin('product', await tf.matMul(a, b, true).data(), expected, 0);
  });
});

describeOnBackends(
  'Block-diagonal gradients on WebGPU',
  () => {
    /** The kernels that the gradients of a Monarch product run, in order. */
    async function kernelsOf(batch: number, w1: [number, number, number], w2: [number, number, number]) {
      const args = [tf.ones([batch, w1[0] * w1[2]]), tf.ones(w1), tf.ones(w2)];
      const gradients = tf.grads((...[x, a, b]: tf.Tensor[]) => monarchMatMul(x, a, b));
      const {kernels} = await tf.profile(() => gradients(args));
      return kernels.map(({name}) => name).filter((name) => name.startsWith('BlockDiagonal'));
    }
    const forward = [BlockDiagonalMatMul, BlockDiagonalMatMul];
    const together = [BlockDiagonalBackward, BlockDiagonalBackward];
    const apart = [BlockDiagonalMatMul, BlockDiagonalWeights, BlockDiagonalMatMul, BlockDiagonalWeights];

    it('come from one kernel where products are small', async () => {
      expect(await kernelsOf(7, [2, 6, 5], [3, 9, 4])).toEqual([...forward, ...together]);
      expect(await kernelsOf(32, [2048, 1, 1], [2048, 1, 1])).toEqual([...forward, ...together]);
    });

    it('come from two where products are large, or sums over the batch long', async () => {
      expect(await kernelsOf(33, [2048, 1, 1], [2048, 1, 1])).toEqual([...forward, ...apart]);
      // Here only the first product is.
      expect(await kernelsOf(17, [1, 2, 2 ** 17], [2, 1, 1])).toEqual([
        ...forward,
        BlockDiagonalBackward,
        ...apart.slice(0, 2),
      ]);
      expect(await kernelsOf(1025, [2, 4, 4], [2, 4, 4])).toEqual([...forward, ...apart]);
    });

    it('come from two, which have gradients, where they are differentiated again', async () => {
      const multiply = (...[a, b]: tf.Tensor[]) => runBlockDiagonalMatMul(a, b, everyCase[0]);
      const ofGradients = (...args: tf.Tensor[]) =>
        tf.addN(
          tf
            .grads(multiply)(args)
            .map((t) => tf.sum(tf.square(t))),
        );
      const {kernels} = await tf.profile(() => tf.grads(ofGradients)([tf.ones([3, 4]), tf.ones([2, 3, 2])]));
      const count = (kernel: string) => kernels.filter(({name}) => name === kernel).length;
      expect(count(BlockDiagonalWeights)).toBe(1);
      expect(count(BlockDiagonalBackward)).toBeGreaterThan(0);
    });

    it('of empty batches are zeros', async () => {
      const multiply = (...[a, b]: tf.Tensor[]) => runBlockDiagonalMatMul(a, b, everyCase[0]);
      const [dx, dw] = tf.grads(multiply)([tf.zeros([0, 4]), tf.ones([2, 3, 2])], tf.zeros([0, 6]));
      expect([dx.shape, dw.shape]).toEqual([
        [0, 4],
        [2, 3, 2],
      ]);
      expect(await dw.data()).toEqual(new Float32Array(12));
    });
  },
  {predicate: ({backendName}) => backendName === 'webgpu'},
);

describeOnBackends(
  'Block-diagonal products in narrow textures',
  () => {
    const side = 'WEBGL_MAX_TEXTURE_SIZE';
    let largest: number;
    beforeEach(registerFallback);
    beforeEach(() => {
      largest = tf.env().getNumber(side);
      tf.env().set(side, 32);
    });
    afterEach(() => tf.env().set(side, largest));

    for (const attrs of everyCase) {
      it(`find their way: ${JSON.stringify(attrs)}`, async () => {
        await expectProductsRight(attrs, {batch: 9, blocks: 6, outer: 14, inner: 18});
        await expectProductsRight(attrs, {batch: 12, blocks: 7, outer: 13, inner: 11});
        // Here a row of weights has its last, odd column in the next row of the texture.
        await expectProductsRight(attrs, {batch: 12, blocks: 8, outer: 14, inner: 9});
      });
    }

    it('say which tensor does not fit', () => {
      const {numTensors, numDataBuffers} = tf.memory();
      const args = [tf.zeros([130, 64]), tf.zeros([4, 16, 16]), tf.zeros([4, 16, 16])];
      expect(() => monarchMatMul(args[0], args[1], args[2])).toThrowError(
        'monarchMatMul: x of shape [130,64] needs 2080 texels, but a texture of this WebGL device holds 32 × 32 = 1024.',
      );
      tf.dispose(args);
      expect(tf.memory().numTensors).toBe(numTensors);
      expect(tf.memory().numDataBuffers).toBe(numDataBuffers);
    });
  },
  {predicate: ({backendName}) => backendName === 'webgl'},
);
