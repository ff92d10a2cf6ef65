/** Block-diagonal products and their gradients, judged by sums in float64. */
import * as tf from '@tensorflow/tfjs-core';
import type {BlockDiagonalSizes} from '../kernels/block_diagonal_sizes.js';
import {runBlockDiagonalMatMul} from '../src/gradients/block_diagonal_gradient.js';
import {BlockDiagonalBackward, type BlockDiagonalMatMulAttrs, type BlockOrder} from '../src/kernel_names.js';
import {expectWithin, worstError} from './attention_results.js';

function placesIn(order: BlockOrder, blocks: number, blockSize: number): (block: number, element: number) => number {
  return (block, element) => (order === 'blocked' ? block * blockSize + element : element * blocks + block);
}

/** The product, and the gradients of Σ product·dy. */
function reference(
  {input, output, transpose}: BlockDiagonalMatMulAttrs,
  {batch, blocks, outer, inner}: BlockDiagonalSizes,
  [x, w, dy]: number[][],
) {
  const [y, dx, dw] = [dy, x, w].map(({length}) => Array<number>(length).fill(0));
  const placeOfX = placesIn(input, blocks, inner);
  const placeOfY = placesIn(output, blocks, outer);
  for (let b = 0; b < batch; b++) {
    for (let block = 0; block < blocks; block++) {
      for (let j = 0; j < outer; j++) {
        for (let i = 0; i < inner; i++) {
          const ofX = b * blocks * inner + placeOfX(block, i);
          const ofY = b * blocks * outer + placeOfY(block, j);
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

// On WebGL this leaves −∞ where the texture of an odd number of rows or columns has padding.
export const random = (shape: number[]) =>
  tf.log(tf.randomUniform(shape, 0.1, 8, 'float32', tf.util.sizeFromShape(shape)));

/** Runs `body` as if the active backend, which has a kernel for both gradients of a product, had none. */
function withoutJointBackward<T>(body: () => T): T {
  const kernel = tf.getKernel(BlockDiagonalBackward, tf.getBackend());
  tf.unregisterKernel(BlockDiagonalBackward, tf.getBackend());
  try {
    return body();
  } finally {
    tf.registerKernel(kernel);
  }
}

/** On backends that can make both gradients at once, judges them, `alsoApart`, as made one after the other too. */
export async function expectProductsRight(
  attrs: BlockDiagonalMatMulAttrs,
  sizes: BlockDiagonalSizes,
  {alsoApart = true} = {},
): Promise<void> {
  const {batch, blocks, outer, inner} = sizes;
  const x = random([batch, blocks * inner]);
  const w = random(attrs.transpose ? [blocks, inner, outer] : [blocks, outer, inner]);
  const dy = random([batch, blocks * outer]);
  const y = runBlockDiagonalMatMul(x, w, attrs);
  const multiply = (...[a, b]: tf.Tensor[]) => runBlockDiagonalMatMul(a, b, attrs);
  const gradients = () => tf.grads(multiply)([x, w], dy);
  const results = [[y, ...gradients()]];
  if (alsoApart && tf.getKernel(BlockDiagonalBackward, tf.getBackend())) {
    results.push([y, ...withoutJointBackward(gradients)]);
  }
  const values = await Promise.all([x, w, dy].map(async (t) => Array.from(await t.data<'float32'>())));
  const right = reference(attrs, sizes, values);
  // A sum rounds once per term, each time by at most a unit in the last place of what it has come to.
  const terms = {y: sizes.inner, dx: sizes.outer, dw: sizes.batch};
  for (const tensors of results) {
    for (const [i, name] of (['y', 'dx', 'dw'] as const).entries()) {
      const expected = right[name];
      const largest = worstError(expected, new Float64Array(expected.length));
      const allowed = terms[name] * 2 ** -24 * largest;
      expectWithin(`${name} of ${JSON.stringify(sizes)}`, await tensors[i].data(), expected, allowed);
    }
  }
}
