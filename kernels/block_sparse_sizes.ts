/** What every backend's block-sparse kernel needs to know of its matrices. */
import type {BlockSparseMatMulAttrs, BlockSparseMatMulInputs} from '../src/kernel_names.js';
import type {BlockLayout} from '../src/sparsity/block_layout.js';

/** The product out = op(a)·op(b) of dense and sparse matrices, per batch entry and head. */
export interface BlockSparseSizes {
  batch: number;
  heads: number;
  /** Rows of op(a) and of the output. */
  rows: number;
  /** Columns of op(a), rows of op(b). */
  inner: number;
  /** Columns of op(b) and of the output. */
  columns: number;
}

export function blockSparseSizes({a, b}: BlockSparseMatMulInputs, attrs: BlockSparseMatMulAttrs): BlockSparseSizes {
  const {mode, layout, transposeA, transposeB} = attrs;
  const [denseA, denseB] = [mode !== 'dsd', mode !== 'dds'];
  const shapeOf = (dense: boolean, shape: number[]): readonly number[] => (dense ? shape.slice(-2) : layout.shape);
  const [rows, inner] = swapIf(transposeA, shapeOf(denseA, a.shape));
  const [, columns] = swapIf(transposeB, shapeOf(denseB, b.shape));
  return {batch: (denseA ? a : b).shape[0], heads: layout.heads, rows, inner, columns};
}

/** The shape of a product: the live blocks in mode 'sdd', else a dense matrix per batch entry and head. */
export function productShape(
  {batch, heads, rows, columns}: BlockSparseSizes,
  {mode, layout, sumBatch}: BlockSparseMatMulAttrs,
): number[] {
  return mode === 'sdd' ? [sumBatch ? 1 : batch, layout.nnz, ...layout.blockSize] : [batch, heads, rows, columns];
}

export function swapIf<T>(swap: boolean, [first, second]: readonly T[]): [T, T] {
  return swap ? [second, first] : [first, second];
}

/** A layout's blocks in the order in which a product walks them: along the rows of the sparse matrix or down its columns. */
export interface BlockWalk {
  /** Blocks of row (or column) i, over all heads, are those from offsets[i] to offsets[i + 1]. */
  offsets: Int32Array;
  /** The numbers of the blocks in walking order. */
  blocks: ArrayLike<number>;
  /** Of each block, by its number: which column (or row) of blocks of the other operand it meets. */
  innerIndices: Int32Array;
  /** How many rows (or columns) of blocks a head has. */
  outerBlocks: number;
  /** Elements of a block along and across. */
  outerSize: number;
  innerSize: number;
}

/** The walk along the rows of the sparse matrix, or of its transpose. */
export function blockWalk(layout: BlockLayout, transposed: boolean): BlockWalk {
  const [rowSize, colSize] = layout.blockSize;
  if (transposed) {
    const {colOffsets: offsets, blocksByColumn: blocks, rowIndices: innerIndices, colBlocks: outerBlocks} = layout;
    return {offsets, blocks, innerIndices, outerBlocks, outerSize: colSize, innerSize: rowSize};
  }
  const {rowOffsets: offsets, colIndices: innerIndices, rowBlocks: outerBlocks, nnz} = layout;
  const blocks = Int32Array.from({length: nnz}, (_, block) => block);
  return {offsets, blocks, innerIndices, outerBlocks, outerSize: rowSize, innerSize: colSize};
}
