/** Block-sparse products in float64 and plain loops: the CPU kernels, and the oracle of the tests. */
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {type BlockSparseSizes, blockWalk} from '../block_sparse_sizes.js';

/** Where element (i, j) of a matrix lies: i·rowStride + j·colStride from the start of its batch entry and head. */
export interface MatrixView {
  values: ArrayLike<number>;
  rowStride: number;
  colStride: number;
}

/** The dense matrix [.., rows, columns] as stored, or its transpose. */
export function matrixView(values: ArrayLike<number>, columns: number, transposed: boolean): MatrixView {
  return transposed ? {values, rowStride: 1, colStride: columns} : {values, rowStride: columns, colStride: 1};
}

/** The live blocks of a·b, [batch, nnz, row size, column size], or with `sumBatch` their sum, [1, nnz, …]. */
export function sampledProduct(
  layout: BlockLayout,
  {batch, heads, rows, inner, columns}: BlockSparseSizes,
  a: MatrixView,
  b: MatrixView,
  sumBatch: boolean,
): Float64Array {
  const [rowSize, colSize] = layout.blockSize;
  const blockElements = rowSize * colSize;
  const out = new Float64Array((sumBatch ? 1 : batch) * layout.nnz * blockElements);
  for (let entry = 0; entry < batch; entry++) {
    for (let head = 0; head < heads; head++) {
      const aStart = (entry * heads + head) * rows * inner;
      const bStart = (entry * heads + head) * inner * columns;
      const [first, end] = [
        layout.rowOffsets[head * layout.rowBlocks],
        layout.rowOffsets[(head + 1) * layout.rowBlocks],
      ];
      for (let block = first; block < end; block++) {
        const [firstRow, firstCol] = [layout.rowIndices[block] * rowSize, layout.colIndices[block] * colSize];
        const start = ((sumBatch ? 0 : entry) * layout.nnz + block) * blockElements;
        for (let i = 0; i < blockElements; i++) {
          const aRow = aStart + (firstRow + Math.floor(i / colSize)) * a.rowStride;
          const bCol = bStart + (firstCol + (i % colSize)) * b.colStride;
          for (let k = 0; k < inner; k++)
            out[start + i] += a.values[aRow + k * a.colStride] * b.values[bCol + k * b.rowStride];
        }
      }
    }
  }
  return out;
}

/**
 * sparse·dense for each batch entry and head, written through the strides of `out`: [outer, free], from a sparse
 * [outer, inner], whose stored form the layout describes or, if `transposed`, the transpose of that, and a dense [inner,
 * free]. A product with the sparse matrix on the right is the transpose of this one, and so a matter of strides.
 */
export function sparseTimesDense(
  layout: BlockLayout,
  transposed: boolean,
  blockValues: {values: ArrayLike<number>; sharedByBatch: boolean},
  dense: MatrixView,
  sizes: {batch: number; heads: number; outer: number; inner: number; free: number},
  outStrides: {outer: number; free: number},
): Float64Array {
  const {batch, heads, outer, inner, free} = sizes;
  const walk = blockWalk(layout, transposed);
  const colSize = layout.blockSize[1];
  const blockElements = walk.outerSize * walk.innerSize;
  const out = new Float64Array(batch * heads * outer * free);
  for (let matrix = 0; matrix < batch * heads; matrix++) {
    const [entry, head] = [Math.floor(matrix / heads), matrix % heads];
    const valuesStart = blockValues.sharedByBatch ? 0 : entry * layout.nnz * blockElements;
    for (let o = 0; o < outer; o++) {
      const [outerBlock, withinOuter] = [Math.floor(o / walk.outerSize), o % walk.outerSize];
      const list = head * walk.outerBlocks + outerBlock;
      for (let at = walk.offsets[list]; at < walk.offsets[list + 1]; at++) {
        const block = walk.blocks[at];
        const start = valuesStart + block * blockElements;
        for (let k = 0; k < walk.innerSize; k++) {
          const weight =
            blockValues.values[start + (transposed ? k * colSize + withinOuter : withinOuter * colSize + k)];
          const denseRow = matrix * inner * free + (walk.innerIndices[block] * walk.innerSize + k) * dense.rowStride;
          const outRow = matrix * outer * free + o * outStrides.outer;
          for (let f = 0; f < free; f++) {
            out[outRow + f * outStrides.free] += weight * dense.values[denseRow + f * dense.colStride];
          }
        }
      }
    }
  }
  return out;
}
