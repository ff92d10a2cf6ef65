/** The sum of a block-sparse and a low-rank matrix that is near to a dense one. */
import {clone, type Tensor2D, type Tensor3D, tensor2d, tensor3d} from '@tensorflow/tfjs-core';
import {CholeskyDecomposition, Matrix, QrDecomposition, SingularValueDecomposition} from 'ml-matrix';
import type {BlockLayout} from '../sparsity/block_layout.js';

/** Options of {@link pixelflyProject}. */
export interface PixelflyProjectOptions {
  /** The live blocks of the sparse matrix; it covers the dense one, rounded up to whole blocks. */
  layout: BlockLayout;
  /** Rank of the low-rank matrix. Default 0: there is none. */
  rank?: number;
}

/** What {@link pixelflyProject} finds: sparse + lowRankIn·lowRankOut. */
export interface PixelflyProjection {
  /** The values of live blocks [nnz, row size, column size]; 0 beyond the dense matrix. */
  sparse: Tensor3D;
  /** [rows, rank]; undefined for rank 0. */
  lowRankIn: Tensor2D | undefined;
  /** [rank, columns]; undefined for rank 0. */
  lowRankOut: Tensor2D | undefined;
  /** The Frobenius norm of the difference from the dense matrix, before these are rounded. */
  error: number;
}

/**
 * A sum of a block-sparse and a low-rank matrix near to a dense one in the Frobenius norm. What the low-rank matrix is in
 * live blocks does not matter, since the sparse matrix holds the rest there; so its factors are fitted to what lies
 * outside, by least squares for one and the other in turn, from the directions in which that is largest. Without live
 * blocks that leads to the leading terms of the singular value decomposition. Each turn comes nearer; the place where it
 * ends need not be the very nearest.
 *
 * It is computed on the host in float64, in O(rows·columns·rank) steps a turn: up to half a minute for 3072 × 768 and rank 32, in
 * which the page waits.
 *
 * Source: alternating least squares for matrix completion, as in Hastie et al., "Matrix Completion and Low-Rank SVD via
 * Fast Alternating Least Squares" (2015, arXiv 1410.2596); the two terms are those of Chen et al., "Pixelated Butterfly:
 * Simple and Efficient Sparse training for Neural Network Models" (2022, arXiv 2112.00029).
 *
 * ```js
 * const layout = tf.BlockLayout.flatButterfly({rows: 16, cols: 24, blockSize: 4, butterflySize: 4, factors: 1});
 * const {sparse, lowRankIn, lowRankOut} = await tf.pixelflyProject(tf.randomNormal([16, 24]), {layout, rank: 2});
 * console.log(sparse.shape, lowRankIn.shape, lowRankOut.shape); // [12, 4, 4] [16, 2] [2, 24]
 * ```
 *
 * @param dense [rows, columns] float32.
 * @param options see {@link PixelflyProjectOptions}.
 * @returns see {@link PixelflyProjection}. Both factors of the low-rank matrix have the same norm.
 * @throws Error that shows the shape, if the layout or the rank does not fit, and where dense has values that are not finite.
 */
export async function pixelflyProject(
  dense: Tensor2D,
  {layout, rank = 0}: PixelflyProjectOptions,
): Promise<PixelflyProjection> {
  const [rows, columns] = dense.shape;
  assertFits(dense.shape, layout, rank);
  // The caller may dispose of its own while this waits.
  const held = clone(dense);
  const values = await held.data<'float32'>();
  held.dispose();
  if (!values.every(Number.isFinite)) throw new Error('pixelflyProject: dense has values that are not finite.');
  const matrix = Matrix.from1DArray(rows, columns, values);
  const factors = rank > 0 ? fitOutside(matrix, layout, rank) : undefined;
  const rest = factors ? Matrix.sub(matrix, factors.left.mmul(factors.right)) : matrix;
  const sparse = takeLiveBlocks(rest, layout);
  return {
    sparse: tensor3d(sparse, [layout.nnz, ...layout.blockSize]),
    lowRankIn: factors && tensor2d(factors.left.to2DArray()),
    lowRankOut: factors && tensor2d(factors.right.to2DArray()),
    error: rest.norm('frobenius'),
  };
}

function assertFits(shape: number[], layout: BlockLayout, rank: number): void {
  const covered = layout.blockSize.map((size, axis) => Math.ceil(shape[axis] / size) * size);
  if (shape.length !== 2 || layout.heads !== 1 || String(covered) !== String(layout.shape)) {
    throw new Error(
      `pixelflyProject: layout must cover dense, which has two axes, in whole blocks of one pattern; got dense ` +
        `[${shape.join(', ')}], layout [${layout.shape.join(', ')}] in blocks of ${layout.blockSize.join(' × ')}.`,
    );
  }
  if (!Number.isInteger(rank) || rank < 0 || rank > Math.min(...shape)) {
    throw new Error(
      `pixelflyProject: rank must be an integer from 0 to the smaller side of dense [${shape.join(', ')}], got ${rank}.`,
    );
  }
}

/** Takes the live blocks out of a matrix: what remains there is 0. */
function takeLiveBlocks(matrix: Matrix, layout: BlockLayout): Float32Array {
  const {nnz, blockSize, rowIndices, colIndices} = layout;
  const [rowSize, colSize] = blockSize;
  const taken = new Float32Array(nnz * rowSize * colSize);
  for (let block = 0; block < nnz; block++) {
    const [firstRow, firstCol] = [rowIndices[block] * rowSize, colIndices[block] * colSize];
    for (let row = firstRow; row < Math.min(firstRow + rowSize, matrix.rows); row++) {
      for (let col = firstCol; col < Math.min(firstCol + colSize, matrix.columns); col++) {
        taken[(block * rowSize + row - firstRow) * colSize + col - firstCol] = matrix.get(row, col);
        matrix.set(row, col, 0);
      }
    }
  }
  return taken;
}

interface LowRank {
  left: Matrix;
  right: Matrix;
}

/** Turns after which the fit ends at the latest. */
const MOST_TURNS = 60;
/** It ends before where a turn takes less than this part of what is missed, or what is missed is this part of all; squared. */
const LEAST_GAIN = 1e-3;
const NEGLIGIBLE = 1e-24;

/** left·right nearest to the matrix outside of the layout. */
function fitOutside(matrix: Matrix, layout: BlockLayout, rank: number): LowRank {
  const outside = matrix.clone();
  takeLiveBlocks(outside, layout);
  const byColumn = bandsOf(layout, outside);
  const byRow = bandsOf(layout.transpose(), outside.transpose());
  let left = orthonormal(startingColumns(outside, rank));
  let right = solveBands(byColumn, left);
  const total = outside.norm('frobenius') ** 2;
  let missed = total;
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    left = orthonormal(solveBands(byRow, orthonormal(right.transpose())).transpose());
    right = solveBands(byColumn, left);
    const now = missedBy(byColumn, left, right);
    if (missed - now <= LEAST_GAIN * missed || now <= NEGLIGIBLE * total) break;
    missed = now;
  }
  return balanced(left, right);
}

/** Columns of blocks, with the rows of each that are outside of the layout. */
interface Band {
  first: number;
  rows: number[];
  /** The matrix in these rows and columns. */
  values: Matrix;
}

function bandsOf(layout: BlockLayout, matrix: Matrix): Band[] {
  const [rowSize, colSize] = layout.blockSize;
  const alive = layout.toMask() as boolean[][];
  return Array.from({length: layout.colBlocks}, (_, band) => {
    const first = band * colSize;
    const all = Array.from({length: matrix.rows}, (__, row) => row);
    const rows = all.filter((row) => !alive[Math.floor(row / rowSize)][band]);
    const columns = Array.from({length: Math.min(colSize, matrix.columns - first)}, (__, i) => first + i);
    return {first, rows, values: matrix.selection(rows, columns)};
  });
}

/**
 * Columns in the space to which the largest parts of the matrix lead: it times its transpose, times numbers that are as
 * good as random and the same every time.
 */
function startingColumns(matrix: Matrix, rank: number): Matrix {
  const seeds = new Matrix(matrix.rows, rank);
  for (let i = 0; i < matrix.rows; i++) {
    for (let j = 0; j < rank; j++) seeds.set(i, j, Math.sin(1 + (i * rank + j) ** 2 * Math.SQRT2));
  }
  return matrix.mmul(matrix.transposeMultiply(seeds));
}

/** The factor [rank, columns] that left, which is orthonormal, must be multiplied with to come nearest to the bands. */
function solveBands(bands: Band[], left: Matrix): Matrix {
  const rank = left.columns;
  const columns = bands.reduce((sum, {values}) => sum + values.columns, 0);
  const right = Matrix.zeros(rank, columns);
  for (const {first, rows, values} of bands) {
    if (rows.length === 0) continue;
    const known = left.selection(rows, range(rank));
    right.setSubMatrix(solveNormal(known.gram(), known.transposeMultiply(values)), 0, first);
  }
  return right;
}

/** Solves a·x = b, where a is made of rows of an orthonormal basis; if these are too few, for a small x. */
function solveNormal(a: Matrix, b: Matrix): Matrix {
  const ridge = 1e-13;
  for (let i = 0; i < a.rows; i++) a.set(i, i, a.get(i, i) + ridge);
  return new CholeskyDecomposition(a).solve(b);
}

function missedBy(bands: Band[], left: Matrix, right: Matrix): number {
  return bands.reduce((sum, {first, rows, values}) => {
    if (rows.length === 0) return sum;
    const columns = range(values.columns).map((column) => first + column);
    const known = left.selection(rows, range(left.columns));
    const difference = Matrix.sub(values, known.mmul(right.selection(range(right.rows), columns)));
    return sum + difference.norm('frobenius') ** 2;
  }, 0);
}

/** An orthonormal basis of a space that contains the columns. */
function orthonormal(columns: Matrix): Matrix {
  return new QrDecomposition(columns).orthogonalMatrix;
}

/** The same product, of factors that share each singular value alike. */
function balanced(left: Matrix, right: Matrix): LowRank {
  const basis = orthonormal(right.transpose());
  const svd = new SingularValueDecomposition(right.mmul(basis), {autoTranspose: true});
  const roots = Matrix.diag(svd.diagonal.map(Math.sqrt));
  return {
    left: left.mmul(svd.leftSingularVectors).mmul(roots),
    right: roots.mmul(svd.rightSingularVectors.transpose()).mmul(basis.transpose()),
  };
}

function range(count: number): number[] {
  return Array.from({length: count}, (_, i) => i);
}
