/** A flat block butterfly on the host, and what is right of products with it, in float64. */
import {BlockLayout} from '../../src/index.js';
import {butterflyOf, type MatrixProblem} from '../cases.js';

export class Butterfly {
  readonly layout: BlockLayout;
  /** The live blocks. */
  readonly values: Float32Array;

  constructor(
    private readonly problem: MatrixProblem,
    makeValues: (count: number) => Float32Array,
  ) {
    const {size, blockSize} = problem;
    const butterfly = butterflyOf(problem);
    // A dense contender stands for all densities.
    this.layout = butterfly
      ? BlockLayout.flatButterfly({rows: size, cols: size, blockSize, ...butterfly})
      : BlockLayout.dense(size, size, blockSize);
    this.values = makeValues(this.layout.nnz * blockSize ** 2);
  }

  toDense(): Float32Array {
    const {size, blockSize} = this.problem;
    const dense = new Float32Array(size * size);
    for (let block = 0; block < this.layout.nnz; block++) {
      const [firstRow, firstColumn] = this.firstElement(block);
      for (let r = 0; r < blockSize; r++) {
        const start = (block * blockSize + r) * blockSize;
        dense.set(this.values.subarray(start, start + blockSize), (firstRow + r) * size + firstColumn);
      }
    }
    return dense;
  }

  /** row·W, or row·Wᵀ. */
  timesRow(row: ArrayLike<number>, transposed: boolean): Float64Array {
    const {size, blockSize} = this.problem;
    const product = new Float64Array(size);
    for (let block = 0; block < this.layout.nnz; block++) {
      const [firstRow, firstColumn] = this.firstElement(block);
      const start = block * blockSize ** 2;
      for (let i = 0; i < blockSize ** 2; i++) {
        const [r, c] = [firstRow + Math.floor(i / blockSize), firstColumn + (i % blockSize)];
        if (transposed) product[r] += row[c] * this.values[start + i];
        else product[c] += row[r] * this.values[start + i];
      }
    }
    return product;
  }

  /** The live block of leftᵀ·right, of two matrices [size, size]. */
  outerProduct(block: number, left: ArrayLike<number>, right: ArrayLike<number>): Float64Array {
    const {size, blockSize} = this.problem;
    const [firstRow, firstColumn] = this.firstElement(block);
    const product = new Float64Array(blockSize ** 2);
    for (let k = 0; k < size; k++) {
      for (let i = 0; i < product.length; i++) {
        const [r, c] = [firstRow + Math.floor(i / blockSize), firstColumn + (i % blockSize)];
        product[i] += left[k * size + r] * right[k * size + c];
      }
    }
    return product;
  }

  /** The row and column of a block's first element. */
  firstElement(block: number): [number, number] {
    const {rowIndices, colIndices} = this.layout;
    return [rowIndices[block] * this.problem.blockSize, colIndices[block] * this.problem.blockSize];
  }

  /** The first, a middle and the last live block. */
  sampledBlocks(): number[] {
    const {nnz} = this.layout;
    return [0, nnz >> 1, nnz - 1];
  }
}
