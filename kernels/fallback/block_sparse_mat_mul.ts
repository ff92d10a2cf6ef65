/**
 * Block-sparse products for backends that have no kernel of their own, by tfjs's dense matMul: sparse matrices are
 * spread out before it, and live blocks picked from its result. Memory and time are those of dense matrices.
 */
import {
  concat,
  gather,
  getKernel,
  matMul,
  registerKernel,
  reshape,
  sum,
  type Tensor,
  tensor1d,
  tidy,
  transpose,
  zeros,
} from '@tensorflow/tfjs-core';
import {BlockSparseMatMul, type BlockSparseMatMulAttrs, type BlockSparseMatMulInputs} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {asTensor} from './as_tensor.js';

/** Makes block-sparse products available on a backend that has no kernel of its own. */
export function registerBlockSparseFallback(backendName: string): void {
  if (getKernel(BlockSparseMatMul, backendName)) return;
  registerKernel({
    kernelName: BlockSparseMatMul,
    backendName,
    kernelFunc: ({inputs, attrs}) =>
      tidy(() => product(inputs as BlockSparseMatMulInputs, attrs as unknown as BlockSparseMatMulAttrs)),
  });
}

function product(inputs: BlockSparseMatMulInputs, attrs: BlockSparseMatMulAttrs): Tensor {
  const {mode, layout, transposeA, transposeB, sumBatch} = attrs;
  const [a, b] = [asTensor(inputs.a), asTensor(inputs.b)];
  if (mode === 'dsd') return matMul(spread(layout, a, b.shape[0]), b, transposeA, transposeB);
  if (mode === 'dds') return matMul(a, spread(layout, b, a.shape[0]), transposeA, transposeB);
  const blocks = pick(layout, matMul(a, b, transposeA, transposeB));
  return sumBatch ? sum(blocks, 0, true) : blocks;
}

/** Live blocks [batch or 1, nnz, ·, ·] as the matrix [batch, heads, rows, columns], 0 elsewhere. */
function spread(layout: BlockLayout, values: Tensor, batch: number): Tensor {
  const {heads, rowBlocks, colBlocks, blockSize, nnz, shape} = layout;
  const sources = new Int32Array(heads * rowBlocks * colBlocks).fill(nnz);
  for (let block = 0; block < nnz; block++) sources[placeOf(layout, block)] = block;
  const entries = values.shape[0];
  const withZeros = concat([values, zeros([entries, 1, ...blockSize])], 1);
  const grid = reshape(gather(withZeros, tensor1d(sources, 'int32'), 1), [
    entries * heads,
    rowBlocks,
    colBlocks,
    ...blockSize,
  ]);
  const matrix = reshape(transpose(grid, [0, 1, 3, 2, 4]), [entries, heads, ...shape]);
  return entries === batch ? matrix : concat(Array<Tensor>(batch).fill(matrix), 0);
}

/** The live blocks of a matrix [batch, heads, rows, columns]. */
function pick(layout: BlockLayout, matrix: Tensor): Tensor {
  const {heads, rowBlocks, colBlocks, blockSize, nnz} = layout;
  const batch = matrix.shape[0];
  const grid = reshape(matrix, [batch * heads, rowBlocks, blockSize[0], colBlocks, blockSize[1]]);
  const blocks = reshape(transpose(grid, [0, 1, 3, 2, 4]), [batch, heads * rowBlocks * colBlocks, ...blockSize]);
  const places = Int32Array.from({length: nnz}, (_, block) => placeOf(layout, block));
  return gather(blocks, tensor1d(places, 'int32'), 1);
}

/** Where a live block lies among all blocks of all heads. */
function placeOf(layout: BlockLayout, block: number): number {
  const {rowBlocks, colBlocks, rowIndices, colIndices} = layout;
  return (layout.headOf(block) * rowBlocks + rowIndices[block]) * colBlocks + colIndices[block];
}
