/**
 * Block-diagonal products for backends that have no kernel of their own: tfjs's batched matMul, with a transposition of
 * x and one of the product around it.
 */
import {
  getKernel,
  matMul,
  registerKernel,
  reshape,
  type Tensor,
  type Tensor3D,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import {BlockDiagonalMatMul, type BlockOrder} from '../../src/kernel_names.js';
import {blockDiagonalKernels} from '../block_diagonal_kernels.js';
import {asTensor} from './as_tensor.js';

/** Makes block-diagonal products available on a backend that has no kernel of its own. */
export function registerBlockDiagonalFallback(backendName: string): void {
  if (getKernel(BlockDiagonalMatMul, backendName)) return;
  const kernels = blockDiagonalKernels(backendName, {
    product: ({x, w}, attrs) =>
      tidy(() => {
        const blocks = w.shape[0];
        const product = matMul(byBlock(asTensor(x), attrs.input, blocks), asTensor(w), false, !attrs.transpose);
        return asRows(product as Tensor3D, attrs.output);
      }),
    weights: ({x, dy}, {input, output, blocks}) =>
      tidy(() => matMul(byBlock(asTensor(dy), output, blocks), byBlock(asTensor(x), input, blocks), true, false)),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

/** Rows [batch, blocks·block size] as [blocks, batch, block size]. */
function byBlock(rows: Tensor, order: BlockOrder, blocks: number): Tensor {
  const [batch, width] = rows.shape as [number, number];
  if (order === 'blocked') return transpose(reshape(rows, [batch, blocks, width / blocks]), [1, 0, 2]);
  return reshape(transpose(reshape(rows, [-1, blocks])), [blocks, batch, width / blocks]);
}

/** The other way round. */
function asRows(matrices: Tensor3D, order: BlockOrder): Tensor {
  const [blocks, batch, blockSize] = matrices.shape;
  const ofRows =
    order === 'blocked' ? transpose(matrices, [1, 0, 2]) : transpose(reshape(matrices, [blocks, batch * blockSize]));
  return reshape(ofRows, [batch, blocks * blockSize]);
}
