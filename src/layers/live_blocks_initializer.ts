/** First values of a block-sparse kernel. */
import {
  gather,
  mul,
  pad,
  randomUniform,
  reshape,
  serialization,
  type Tensor,
  tensor,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core';
import type {initializers} from '@tensorflow/tfjs-layers';
import type {BlockLayout} from '../sparsity/block_layout.js';

export type Initializer = ReturnType<typeof initializers.zeros>;

/** The kernel [inputs, units] whose live blocks are made; the layout covers it, rounded up to whole blocks. */
export interface BlockSparseKernel {
  layout: BlockLayout;
  inputs: number;
  units: number;
}

/**
 * Values as those of a dense kernel, U(±1/√inputs) unless another initializer makes them, times √(inputs / live inputs of
 * the output): an output of x·W then has the variance that the dense kernel gives it. (The paper scales the rows of
 * y = W·x; in y = x·W an output's weights are a column, so here the factor belongs to a column of blocks.) Elements
 * that lie beyond the kernel, in blocks at its edge, are 0, and stay 0 in training because nothing depends on them.
 */
export class LiveBlocksInitializer extends serialization.Serializable {
  static readonly className = 'LiveBlocksInitializer';

  constructor(
    private readonly kernel: BlockSparseKernel,
    private readonly denseInitializer: Initializer | undefined,
    private readonly seed: number | undefined,
  ) {
    super();
  }

  /** @param shape [nnz, row size, column size]. */
  apply(shape: (number | null)[]): Tensor {
    return tidy(() => mul(this.unscaled(shape as number[]), tensor(this.factors(), shape as number[])));
  }

  private unscaled(shape: number[]): Tensor {
    const {inputs, units, layout} = this.kernel;
    if (!this.denseInitializer) {
      const limit = 1 / Math.sqrt(inputs);
      return randomUniform(shape, -limit, limit, 'float32', this.seed);
    }
    const [rows, columns] = layout.shape;
    const dense = this.denseInitializer.apply([inputs, units], 'float32');
    return liveBlocks(
      layout,
      pad(dense, [
        [0, rows - inputs],
        [0, columns - units],
      ]),
    );
  }

  /** What each value is multiplied by. */
  private factors(): Float32Array {
    const {layout, inputs, units} = this.kernel;
    const {rowIndices, colIndices, nnz, colBlocks} = layout;
    const [rowSize, colSize] = layout.blockSize;
    const rowsOf = (block: number) => Math.min(rowSize, inputs - rowIndices[block] * rowSize);
    const columnsOf = (block: number) => Math.min(colSize, units - colIndices[block] * colSize);
    const liveInputs = new Float64Array(colBlocks);
    for (let block = 0; block < nnz; block++) liveInputs[colIndices[block]] += rowsOf(block);
    const factors = new Float32Array(nnz * rowSize * colSize);
    for (let block = 0; block < nnz; block++) {
      const factor = Math.sqrt(inputs / liveInputs[colIndices[block]]);
      for (let row = 0; row < rowsOf(block); row++) {
        const start = (block * rowSize + row) * colSize;
        factors.fill(factor, start, start + columnsOf(block));
      }
    }
    return factors;
  }

  fromConfigUsesCustomObjects(): boolean {
    return false;
  }

  /** The layer that owns the kernel makes this anew, so that nothing of it is saved. */
  getConfig(): serialization.ConfigDict {
    return {};
  }
}

/** The live blocks of a matrix as values [nnz, row size, column size]. */
function liveBlocks(layout: BlockLayout, matrix: Tensor): Tensor {
  const {rowBlocks, colBlocks, blockSize, nnz, rowIndices, colIndices} = layout;
  const grid = transpose(reshape(matrix, [rowBlocks, blockSize[0], colBlocks, blockSize[1]]), [0, 2, 1, 3]);
  const places = Int32Array.from({length: nnz}, (_, block) => rowIndices[block] * colBlocks + colIndices[block]);
  return gather(reshape(grid, [rowBlocks * colBlocks, ...blockSize]), tensor(places, [nnz], 'int32'));
}
