/** Products of matrices, block by block, as plain loops in float64. */

/** Element (row, column) of matrix g lies g·block + row·rowStride + column·columnStride from the start. */
export interface BlockMatrices {
  block: number;
  rowStride: number;
  columnStride: number;
}

export interface FilledBlockMatrices extends BlockMatrices {
  values: ArrayLike<number>;
}

export function transposed<M extends BlockMatrices>(matrices: M): M {
  return {...matrices, rowStride: matrices.columnStride, columnStride: matrices.rowStride};
}

/** a·b of every block, laid out as `out` says. */
export function blockProducts(
  a: FilledBlockMatrices,
  b: FilledBlockMatrices,
  {blocks, rows, inner, columns}: {blocks: number; rows: number; inner: number; columns: number},
  out: BlockMatrices,
): Float64Array {
  const product = new Float64Array(blocks * rows * columns);
  for (let block = 0; block < blocks; block++) {
    for (let row = 0; row < rows; row++) {
      const aRow = block * a.block + row * a.rowStride;
      for (let column = 0; column < columns; column++) {
        const bColumn = block * b.block + column * b.columnStride;
        let sum = 0;
        for (let i = 0; i < inner; i++) {
          sum += a.values[aRow + i * a.columnStride] * b.values[bColumn + i * b.rowStride];
        }
        product[block * out.block + row * out.rowStride + column * out.columnStride] = sum;
      }
    }
  }
  return product;
}
