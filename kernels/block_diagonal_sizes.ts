/** Sizes of products with block-diagonal matrices, and where the elements of a block lie. */
import type {
  BlockDiagonalMatMulAttrs,
  BlockDiagonalMatMulInputs,
  BlockDiagonalWeightsAttrs,
  BlockDiagonalWeightsInputs,
  BlockOrder,
} from '../src/kernel_names.js';

export interface BlockDiagonalSizes {
  batch: number;
  blocks: number;
  /** Elements of x in a block. */
  inner: number;
  /** Elements of the product in a block. */
  outer: number;
}

export function productSizes(
  {x, w}: BlockDiagonalMatMulInputs,
  {transpose}: BlockDiagonalMatMulAttrs,
): BlockDiagonalSizes {
  const [blocks, rows, columns] = w.shape;
  const [outer, inner] = transpose ? [columns, rows] : [rows, columns];
  return {batch: x.shape[0], blocks, inner, outer};
}

export function weightsSizes(
  {x, dy}: BlockDiagonalWeightsInputs,
  {blocks}: BlockDiagonalWeightsAttrs,
): BlockDiagonalSizes {
  return {batch: x.shape[0], blocks, inner: x.shape[1] / blocks, outer: dy.shape[1] / blocks};
}

/** Element i of block g lies g·block + i·element from the start of a row. */
export interface BlockStrides {
  block: number;
  element: number;
}

export function blockStrides(order: BlockOrder, blocks: number, blockSize: number): BlockStrides {
  return order === 'blocked' ? {block: blockSize, element: 1} : {block: 1, element: blocks};
}
