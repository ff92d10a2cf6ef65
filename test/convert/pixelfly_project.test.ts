/** pixelflyProject: sums of block-sparse and low-rank matrices are found again, others approached, and errors are clear. */
import * as tf from '@tensorflow/tfjs-core';
import {Matrix, SingularValueDecomposition} from 'ml-matrix';
import {BlockLayout, type PixelflyProjection, pixelflyProject} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends, restoreBackendAfterwards} from '../backends.js';

const butterfly = (rows: number, cols: number, factors = 1) =>
  BlockLayout.flatButterfly({rows, cols, blockSize: 4, butterflySize: 4, factors});

const normal = (rows: number, columns: number, seed: number) =>
  tf.randomNormal<tf.Rank.R2>([rows, columns], 0, 1, 'float32', seed);

/** Whether an element lies in a live block. */
const isLive = (layout: BlockLayout, row: number, column: number) =>
  layout.isLive(Math.floor(row / layout.blockSize[0]), Math.floor(column / layout.blockSize[1]));

/** The matrix that a projection stands for, without what lies beyond it. */
async function matrixOf(projection: PixelflyProjection, layout: BlockLayout, rows: number, columns: number) {
  const {sparse, lowRankIn, lowRankOut} = projection;
  const values = await sparse.data();
  const sum = Matrix.zeros(...layout.shape);
  const [rowSize, colSize] = layout.blockSize;
  values.forEach((value, i) => {
    const block = Math.floor(i / (rowSize * colSize));
    const row = layout.rowIndices[block] * rowSize + (Math.floor(i / colSize) % rowSize);
    sum.set(row, layout.colIndices[block] * colSize + (i % colSize), value);
  });
  const inside = sum.subMatrix(0, rows - 1, 0, columns - 1);
  const beyond = sum.norm() ** 2 - inside.norm() ** 2;
  expect(Math.abs(beyond)).withContext('beyond the matrix').toBeLessThan(1e-9);
  if (lowRankIn && lowRankOut)
    inside.add(new Matrix(await lowRankIn.array()).mmul(new Matrix(await lowRankOut.array())));
  return inside;
}

describeOnBackends('pixelflyProject', () => {
  it('finds sums of a block-sparse and a low-rank matrix again, of any sides', async () => {
    const [rows, columns] = [30, 45];
    const layout = butterfly(32, 48);
    const lowRank = tf.matMul(normal(rows, 3, 1), normal(3, columns, 2));
    const live = tf.tensor2d(
      Array.from({length: rows}, (_, row) =>
        Array.from({length: columns}, (__, column) => (isLive(layout, row, column) ? 1 : 0)),
      ),
    );
    const dense = tf.add(lowRank, tf.mul(live, normal(rows, columns, 3))) as tf.Tensor2D;
    const projection = await pixelflyProject(dense, {layout, rank: 3});
    expect([projection.sparse.shape, projection.lowRankIn?.shape, projection.lowRankOut?.shape]).toEqual([
      [layout.nnz, 4, 4],
      [30, 3],
      [3, 45],
    ]);
    expect(projection.error).toBeLessThan(1e-5);
    expectWithin(
      'matrix',
      (await matrixOf(projection, layout, rows, columns)).to1DArray(),
      await dense.data(),
      2e-6 * (await tf.max(tf.abs(dense)).data())[0],
    );
    const norms = [projection.lowRankIn, projection.lowRankOut].map((factor) => tf.norm(factor as tf.Tensor));
    expectWithin('norms', await norms[0].data(), await norms[1].data(), 1e-4);
  });
});

describe('pixelflyProject', () => {
  restoreBackendAfterwards();
  beforeAll(() => tf.setBackend('cpu'));
  let scope: number;
  beforeEach(() => {
    scope = tf.memory().numTensors;
    tf.engine().startScope();
  });
  afterEach(() => {
    tf.engine().endScope();
    expect(tf.memory().numTensors).toBe(scope);
  });

  it('comes nearer than a truncated singular value decomposition, which has no live block', async () => {
    const dense = normal(12, 20, 4);
    const layout = BlockLayout.from({
      rowBlocks: 3,
      colBlocks: 5,
      blockSize: 4,
      isLive: (row, column) => row + column === 0,
    });
    // What lies in the only live block is 0.
    const values = new Matrix(await dense.array());
    for (let row = 0; row < 4; row++) for (let column = 0; column < 4; column++) values.set(row, column, 0);
    const {diagonal} = new SingularValueDecomposition(values, {autoTranspose: true});
    const {error} = await pixelflyProject(dense, {layout, rank: 4});
    expect(error).toBeLessThan(Math.hypot(...diagonal.slice(4)));
  });

  it('comes as near as singular value decompositions and live blocks in turn', async () => {
    const layout = butterfly(32, 24);
    const dense = normal(32, 24, 5);
    const matrix = new Matrix(await dense.array());
    const rest = matrix.clone();
    for (let turn = 0; turn < 500; turn++) {
      const svd = new SingularValueDecomposition(rest, {autoTranspose: true});
      const leading = svd.leftSingularVectors
        .subMatrixColumn([0, 1, 2])
        .mmul(Matrix.diag(svd.diagonal.slice(0, 3)))
        .mmul(svd.rightSingularVectors.subMatrixColumn([0, 1, 2]).transpose());
      for (let row = 0; row < 32; row++) {
        for (let column = 0; column < 24; column++) {
          const value = isLive(layout, row, column) ? leading : matrix;
          rest.set(row, column, value.get(row, column));
        }
      }
      if (turn === 499) rest.sub(leading);
    }
    const projection = await pixelflyProject(dense, {layout, rank: 3});
    expect(projection.error).toBeLessThan(1.005 * rest.norm());
    const distance = Matrix.sub(await matrixOf(projection, layout, 32, 24), matrix).norm();
    expect(Math.abs(distance - projection.error)).toBeLessThan(1e-5);
  });

  it('takes the live blocks where there is no low-rank term, and all where all live', async () => {
    const dense = normal(16, 16, 6);
    const {sparse, lowRankIn, lowRankOut, error} = await pixelflyProject(dense, {layout: butterfly(16, 16)});
    expect([lowRankIn, lowRankOut]).toEqual([undefined, undefined]);
    expect(error ** 2 + (await tf.sum(tf.square(sparse)).data())[0]).toBeCloseTo(
      (await tf.sum(tf.square(dense)).data())[0],
      3,
    );
    const all = await pixelflyProject(dense, {layout: BlockLayout.dense(16, 16, 4), rank: 2});
    expect(all.error).toBe(0);
    const zero = await pixelflyProject(tf.zeros([16, 16]), {layout: butterfly(16, 16), rank: 2});
    expect(zero.error).toBe(0);
    expect((await (zero.lowRankIn as tf.Tensor).data()).every((value) => value === 0)).toBeTrue();
  });

  it('says what is wrong with its arguments', async () => {
    const layout = butterfly(16, 16);
    await expectAsync(pixelflyProject(tf.zeros([12, 16]), {layout})).toBeRejectedWithError(
      'pixelflyProject: layout must cover dense, which has two axes, in whole blocks of one pattern; ' +
        'got dense [12, 16], layout [16, 16] in blocks of 4 × 4.',
    );
    await expectAsync(pixelflyProject(tf.zeros([16, 16]), {layout, rank: 17})).toBeRejectedWithError(
      'pixelflyProject: rank must be an integer from 0 to the smaller side of dense [16, 16], got 17.',
    );
    await expectAsync(pixelflyProject(tf.fill([16, 16], Number.NaN), {layout})).toBeRejectedWithError(
      'pixelflyProject: dense has values that are not finite.',
    );
  });
});
