/** Index tables of layouts for GPU kernels, which the layout keeps on each backend (`BlockLayout.indexBuffer`). */
import type {BlockLayout} from '../src/sparsity/block_layout.js';
import {blockWalk} from './block_sparse_sizes.js';

/**
 * The blocks of each row of blocks of the sparse matrix, or of its transpose: first where each row's entries begin, over
 * all heads and with the end of the last; then two numbers per entry: the block, and the inner block that it meets.
 */
export function walkTable(layout: BlockLayout, transposed: boolean): Int32Array {
  const {offsets, blocks, innerIndices} = blockWalk(layout, transposed);
  const entries = Array.from(blocks, (block) => [block, innerIndices[block]]);
  return Int32Array.from([...offsets, ...entries.flat()]);
}

/** Three numbers per live block: its row and column of blocks, and its head. */
export function placeTable({heads, rowBlocks, rowOffsets, rowIndices, colIndices, nnz}: BlockLayout): Int32Array {
  const table = new Int32Array(3 * nnz);
  for (let head = 0; head < heads; head++) {
    for (let block = rowOffsets[head * rowBlocks]; block < rowOffsets[(head + 1) * rowBlocks]; block++) {
      table.set([rowIndices[block], colIndices[block], head], 3 * block);
    }
  }
  return table;
}
