/** A block-sparse product as a subject, and the dense product of the same shape: y = x·w, or dx and dw. */
import * as tf from '@tensorflow/tfjs-core';
import {BlockLayout, blockSparseMatMul} from '../../src/index.js';
import {butterflyOf, type Contender, type MatrixProblem} from '../cases.js';
import type {OpenBackend} from './backend.js';
import {ErrorMeter} from './error_meter.js';
import {randomValues} from './random_values.js';
import type {Results, Subject} from './subject.js';

type MatrixCase = MatrixProblem & {contender: Contender};

export function productSubject(backend: OpenBackend, problem: MatrixCase): Subject {
  const {size, contender, pass} = problem;
  const matrices = new ProductMatrices(problem);
  const isSparse = contender === 'sparse';
  const {layout} = matrices;
  const moved = (values: Float32Array, shape: number[]) => backend.moveToGpu(tf.tensor(values, shape));
  const x = moved(matrices.x, [size, size]);
  const dy = moved(matrices.dy, [size, size]);
  const w = isSparse ? moved(matrices.w, [layout.nnz, ...layout.blockSize]) : moved(matrices.denseW(), [size, size]);
  const multiply = (left: tf.Tensor, right: tf.Tensor) =>
    isSparse ? blockSparseMatMul(left, right, {layout, mode: 'dds'}) : tf.matMul(left, right);
  const gradients = tf.grads(multiply);
  return {
    inputs: {x, dy, w},
    prepare: () => (): Results => {
      if (pass === 'forward') return {y: tf.tidy(() => multiply(x, w))};
      const [dx, dw] = gradients([x, w], dy);
      return {dx, dw};
    },
    check: (results) => matrices.check(results, isSparse),
  };
}

/** The matrices on the host, and what is right of their products, on some rows and some blocks. */
class ProductMatrices {
  readonly layout: BlockLayout;
  readonly x: Float32Array;
  readonly dy: Float32Array;
  /** The live blocks. */
  readonly w: Float32Array;

  constructor(private readonly problem: MatrixProblem) {
    const {size, blockSize} = problem;
    const butterfly = butterflyOf(problem);
    // The dense contender stands for all densities.
    this.layout = butterfly
      ? BlockLayout.flatButterfly({rows: size, cols: size, blockSize, ...butterfly})
      : BlockLayout.dense(size, size, blockSize);
    this.x = randomValues(1, size * size);
    this.dy = randomValues(2, size * size);
    this.w = randomValues(3, this.layout.nnz * blockSize ** 2);
  }

  denseW(): Float32Array {
    const {size, blockSize} = this.problem;
    const dense = new Float32Array(size * size);
    this.forEachBlock((row, col, start) => {
      for (let r = 0; r < blockSize; r++) {
        const ofRow = this.w.subarray(start + r * blockSize, start + (r + 1) * blockSize);
        dense.set(ofRow, (row * blockSize + r) * size + col * blockSize);
      }
    });
    return dense;
  }

  async check(results: Results, isSparse: boolean): Promise<Record<string, number>> {
    const errors: Record<string, number> = {};
    for (const [name, result] of Object.entries(results)) {
      const meter = new ErrorMeter();
      if (name === 'dw') await this.compareBlocks(meter, result, isSparse);
      else await this.compareRows(meter, result, name === 'y' ? this.x : this.dy, name === 'dx');
      errors[name] = meter.within(name);
    }
    return errors;
  }

  /** Rows of left·w, or of left·wᵀ. */
  private async compareRows(meter: ErrorMeter, result: tf.Tensor, left: Float32Array, transposed: boolean) {
    const {size, blockSize} = this.problem;
    for (const row of [0, 1, size / 2 + 33, size - 1]) {
      const expected = new Float64Array(size);
      this.forEachBlock((blockRow, blockCol, start) => {
        const [outer, inner] = transposed ? [blockRow, blockCol] : [blockCol, blockRow];
        for (let i = 0; i < blockSize; i++) {
          for (let o = 0; o < blockSize; o++) {
            const weight = this.w[start + (transposed ? o * blockSize + i : i * blockSize + o)];
            expected[outer * blockSize + o] += left[row * size + inner * blockSize + i] * weight;
          }
        }
      });
      meter.compare(await part(result, [row, 0], [1, size]), expected);
    }
  }

  /** The first, a middle and the last live block of xᵀ·dy. */
  private async compareBlocks(meter: ErrorMeter, result: tf.Tensor, isSparse: boolean) {
    const {size, blockSize} = this.problem;
    const {nnz, rowIndices, colIndices} = this.layout;
    for (const block of [0, nnz >> 1, nnz - 1]) {
      const [firstRow, firstCol] = [rowIndices[block] * blockSize, colIndices[block] * blockSize];
      const expected = new Float64Array(blockSize * blockSize);
      for (let k = 0; k < size; k++) {
        for (let i = 0; i < expected.length; i++) {
          const [row, col] = [firstRow + Math.floor(i / blockSize), firstCol + (i % blockSize)];
          expected[i] += this.x[k * size + row] * this.dy[k * size + col];
        }
      }
      const shape = [blockSize, blockSize];
      const actual = isSparse
        ? await part(result, [block, 0, 0], [1, ...shape])
        : await part(result, [firstRow, firstCol], shape);
      meter.compare(actual, expected);
    }
  }

  private forEachBlock(visit: (row: number, col: number, start: number) => void): void {
    const {nnz, rowIndices, colIndices} = this.layout;
    const {blockSize} = this.problem;
    for (let block = 0; block < nnz; block++) visit(rowIndices[block], colIndices[block], block * blockSize ** 2);
  }
}

async function part(tensor: tf.Tensor, begin: number[], size: number[]): Promise<ArrayLike<number>> {
  const slice = tf.slice(tensor, begin, size);
  const values = await slice.data();
  slice.dispose();
  return values;
}
