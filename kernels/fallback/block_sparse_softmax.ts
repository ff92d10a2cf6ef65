/**
 * The softmax over live blocks for backends that have no kernel of their own, by tfjs's ops: rows are brought to one
 * length, that of the row with the most live blocks, with blocks in which nothing is visible.
 */
import {
  concat,
  div,
  equal,
  exp,
  fill,
  gather,
  getKernel,
  less,
  logicalAnd,
  logicalNot,
  max,
  mul,
  onesLike,
  registerKernel,
  reshape,
  sub,
  sum,
  type Tensor,
  tensor,
  tidy,
  transpose,
  where,
  zerosLike,
} from '@tensorflow/tfjs-core';
import {
  BlockSparseSoftmax,
  type BlockSparseSoftmaxAttrs,
  BlockSparseSoftmaxBackward,
  type BlockSparseSoftmaxBackwardAttrs,
  type BlockSparseSoftmaxBackwardInputs,
  type BlockSparseSoftmaxInputs,
  HIDDEN_BELOW,
  LOWEST_FLOAT32,
} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {asTensor} from './as_tensor.js';

/** Makes the softmax over live blocks available on a backend that has no kernel of its own. */
export function registerSoftmaxFallback(backendName: string): void {
  if (getKernel(BlockSparseSoftmax, backendName)) return;
  registerKernel({
    kernelName: BlockSparseSoftmax,
    backendName,
    kernelFunc: ({inputs, attrs}) =>
      tidy(() => softmax(inputs as BlockSparseSoftmaxInputs, attrs as unknown as BlockSparseSoftmaxAttrs)),
  });
  registerKernel({
    kernelName: BlockSparseSoftmaxBackward,
    backendName,
    kernelFunc: ({inputs, attrs}) =>
      tidy(() =>
        backward(inputs as BlockSparseSoftmaxBackwardInputs, attrs as unknown as BlockSparseSoftmaxBackwardAttrs),
      ),
  });
}

function softmax(inputs: BlockSparseSoftmaxInputs, {layout, scale, causal}: BlockSparseSoftmaxAttrs): Tensor {
  const values = asTensor(inputs.values) as Tensor;
  const hidden = less(values, HIDDEN_BELOW);
  const visible = causal ? logicalAnd(logicalNot(hidden), causalMask(layout)) : logicalNot(hidden);
  const scores = toRows(layout, where(visible, mul(values, scale), LOWEST_FLOAT32), LOWEST_FLOAT32);
  const seen = toRows(layout, where(visible, onesLike(values), zerosLike(values)), 0);
  const weights = mul(exp(sub(scores, max(scores, -1, true))), seen);
  const sums = sum(weights, -1, true);
  return toBlocks(layout, div(weights, where(equal(sums, 0), onesLike(sums), sums)));
}

function backward(inputs: BlockSparseSoftmaxBackwardInputs, {layout}: BlockSparseSoftmaxBackwardAttrs): Tensor {
  const p = toRows(layout, asTensor(inputs.probabilities), 0);
  const dp = toRows(layout, asTensor(inputs.dProbabilities), 0);
  return toBlocks(layout, mul(p, sub(dp, sum(mul(p, dp), -1, true))));
}

/** [nnz, row size, column size] bool: true where column ≤ row + columns − rows. */
function causalMask(layout: BlockLayout): Tensor {
  const {nnz, rowIndices, colIndices, shape} = layout;
  const [rowSize, colSize] = layout.blockSize;
  const mask = Uint8Array.from({length: nnz * rowSize * colSize}, (_, i) => {
    const block = Math.floor(i / (rowSize * colSize));
    const row = rowIndices[block] * rowSize + (Math.floor(i / colSize) % rowSize);
    return Number(colIndices[block] * colSize + (i % colSize) <= row + shape[1] - shape[0]);
  });
  return tensor(mask, [nnz, rowSize, colSize], 'bool');
}

/** How many blocks the longest row of blocks has. */
function longestRow({rowOffsets}: BlockLayout): number {
  let longest = 0;
  for (let list = 1; list < rowOffsets.length; list++) {
    longest = Math.max(longest, rowOffsets[list] - rowOffsets[list - 1]);
  }
  return longest;
}

/** Values [batch, nnz, row size, column size] as rows [batch, rows of all heads, longest row], filled up. */
function toRows(layout: BlockLayout, values: Tensor, filling: number): Tensor {
  const {heads, rowBlocks, rowOffsets, nnz} = layout;
  const [rowSize, colSize] = layout.blockSize;
  const lists = heads * rowBlocks;
  const longest = longestRow(layout);
  const sources = Int32Array.from({length: lists * longest}, (_, i) => {
    const block = rowOffsets[Math.floor(i / longest)] + (i % longest);
    return block < rowOffsets[Math.floor(i / longest) + 1] ? block : nnz;
  });
  const batch = values.shape[0];
  const filled = concat([values, fill([batch, 1, rowSize, colSize], filling)], 1);
  const grid = reshape(gather(filled, tensor(sources, [sources.length], 'int32'), 1), [
    batch * lists,
    longest,
    rowSize,
    colSize,
  ]);
  return reshape(transpose(grid, [0, 2, 1, 3]), [batch, lists * rowSize, longest * colSize]);
}

/** The inverse of {@link toRows}. */
function toBlocks(layout: BlockLayout, rows: Tensor): Tensor {
  const {heads, rowBlocks, rowOffsets, nnz} = layout;
  const [rowSize, colSize] = layout.blockSize;
  const lists = heads * rowBlocks;
  const longest = longestRow(layout);
  const places = new Int32Array(nnz);
  for (let list = 0; list < lists; list++) {
    for (let block = rowOffsets[list]; block < rowOffsets[list + 1]; block++) {
      places[block] = list * longest + block - rowOffsets[list];
    }
  }
  const batch = rows.shape[0];
  const grid = transpose(reshape(rows, [batch * lists, rowSize, longest, colSize]), [0, 2, 1, 3]);
  const blocks = reshape(grid, [batch, lists * longest, rowSize, colSize]);
  return gather(blocks, tensor(places, [nnz], 'int32'), 1);
}
