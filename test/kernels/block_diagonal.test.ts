/** The kernels of block-diagonal products on every backend, in every order of input and output, and their gradients. */
import * as tf from '@tensorflow/tfjs-core';
import {runBlockDiagonalMatMul} from '../../src/gradients/block_diagonal_gradient.js';
import {monarchMatMul} from '../../src/index.js';
import type {BlockDiagonalMatMulAttrs, BlockOrder} from '../../src/kernel_names.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const orders: BlockOrder[] = ['blocked', 'interleaved'];
const everyCase = orders.flatMap((input) =>
  orders.flatMap((output) => [false, true].map((transpose): BlockDiagonalMatMulAttrs => ({input, output, transpose}))),
);
const [batch, blocks, outer, inner] = [3, 4, 5, 6];

function placeOf(order: BlockOrder, block: number, element: number, blockSize: number): number {
  return order === 'blocked' ? block * blockSize + element : element * blocks + block;
}

/** The product, and the gradients of Σ product·dy. */
function reference({input, output, transpose}: BlockDiagonalMatMulAttrs, x: number[], w: number[], dy: number[]) {
  const [y, dx, dw] = [dy, x, w].map(({length}) => Array<number>(length).fill(0));
  for (let b = 0; b < batch; b++) {
    for (let block = 0; block < blocks; block++) {
      for (let j = 0; j < outer; j++) {
        for (let i = 0; i < inner; i++) {
          const ofX = b * blocks * inner + placeOf(input, block, i, inner);
          const ofY = b * blocks * outer + placeOf(output, block, j, outer);
          const ofW = block * outer * inner + (transpose ? i * outer + j : j * inner + i);
          y[ofY] += w[ofW] * x[ofX];
          dx[ofX] += w[ofW] * dy[ofY];
          dw[ofW] += dy[ofY] * x[ofX];
        }
      }
    }
  }
  return {y, dx, dw};
}

describeOnBackends('Block-diagonal products', () => {
  // Ops register the fallback on backends that have no kernel.
  beforeEach(() => tf.dispose(monarchMatMul(tf.ones([1, 1]), tf.ones([1, 1, 1]), tf.ones([1, 1, 1]))));

  for (const attrs of everyCase) {
    it(`are right: ${JSON.stringify(attrs)}`, async () => {
      const x = tf.randomNormal([batch, blocks * inner]);
      const w = tf.randomNormal(attrs.transpose ? [blocks, inner, outer] : [blocks, outer, inner]);
      const dy = tf.randomNormal([batch, blocks * outer]);
      const y = runBlockDiagonalMatMul(x, w, attrs);
      const multiply = (...[a, b]: tf.Tensor[]) => runBlockDiagonalMatMul(a, b, attrs);
      const [dx, dw] = tf.grads(multiply)([x, w], dy);
      const [xs, ws, dys] = await Promise.all([x, w, dy].map(async (t) => Array.from(await t.data<'float32'>())));
      const right = reference(attrs, xs, ws, dys);
      for (const [name, t] of Object.entries({y, dx, dw})) {
        expectWithin(name, await t.data(), right[name as keyof typeof right], 0);
      }
    });
  }
});
