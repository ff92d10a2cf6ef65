/** Block-sparse products: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {BlockLayout, type BlockSparseMode, blockSparseMatMul} from '../src/index.js';
import {expectWithin, worstError} from './attention_results.js';

declare const FULL_GRID: boolean;

/** One product. Grids are small and odd on purpose, with empty rows and columns at density ¼. */
export interface ProductCase {
  mode: BlockSparseMode;
  transposeA: boolean;
  transposeB: boolean;
  blockSize: number | [number, number];
  density: number;
  /** The side that the layout does not fix. */
  free: number;
  /** Leading axes of the dense matrices. */
  leading?: number[];
  heads?: number;
  /** Whether the values do without these axes and serve the whole batch. */
  sharedValues?: boolean;
}

const modes: BlockSparseMode[] = ['sdd', 'dsd', 'dds'];
const transposes = [false, true].flatMap((transposeA) => [false, true].map((transposeB) => ({transposeA, transposeB})));

const everyCombination = (blockSizes: number[], densities: number[], frees: number[]) =>
  modes.flatMap((mode) =>
    transposes.flatMap((transposed) =>
      blockSizes.flatMap((blockSize) =>
        densities.flatMap((density) =>
          frees.map((free): ProductCase => ({mode, ...transposed, blockSize, density, free})),
        ),
      ),
    ),
  );

const plain = {transposeA: false, transposeB: true, density: 0.5};
const special = modes.flatMap((mode): ProductCase[] => [
  {...plain, mode, blockSize: 8, free: 1},
  {...plain, mode, blockSize: [8, 16], free: 80},
  {...plain, mode, blockSize: 64, free: 48},
  {...plain, mode, blockSize: [5, 6], free: 7},
  {...plain, mode, blockSize: 16, free: 19, leading: [2, 3]},
  {...plain, mode, blockSize: 8, free: 10, leading: [2], heads: 3},
  {...plain, mode, blockSize: [5, 6], free: 7, leading: [2], heads: 3},
  {...plain, mode, transposeA: true, transposeB: false, blockSize: 3, free: 8},
]);
const shared = modes.slice(1).map(
  (mode): ProductCase => ({
    ...plain,
    mode,
    blockSize: 16,
    free: 19,
    leading: [3],
    sharedValues: true,
  }),
);

export const productCases: ProductCase[] = [
  ...everyCombination([16], [0, 0.25, 0.5, 1], [21]),
  ...special,
  ...shared,
  ...(FULL_GRID ? everyCombination([8, 16, 32, 64], [0, 0.25, 0.5, 1], [16, 48, 80]) : []),
];

const GRID = {rowBlocks: 3, colBlocks: 4};

/** A matrix as the op takes or returns it: dense, or the values of live blocks. */
interface Matrix {
  shape: number[];
  values: Float32Array;
  isSparse: boolean;
}

interface Problem {
  productCase: ProductCase;
  layout: BlockLayout;
  a: Matrix;
  b: Matrix;
  /** What weighs the product in the loss. */
  weights: Matrix;
}

/** The product and the gradients of Σ product·weights, shaped as the op has them. */
interface ProductResult {
  product: ArrayLike<number>;
  a: ArrayLike<number>;
  b: ArrayLike<number>;
}

export function makeLayout({
  blockSize,
  density,
  heads = 1,
}: Pick<ProductCase, 'blockSize' | 'density' | 'heads'>): BlockLayout {
  const positions = GRID.rowBlocks * GRID.colBlocks * heads;
  // 5 has no divisor in common with the number of blocks, so this reaches all of them.
  const live = new Set(Array.from({length: Math.round(density * positions)}, (_, i) => (7 + 5 * i) % positions));
  const isLive = (row: number, col: number, head: number) =>
    live.has((head * GRID.rowBlocks + row) * GRID.colBlocks + col);
  return BlockLayout.from({...GRID, blockSize, heads, isLive});
}

function makeProblem(productCase: ProductCase): Problem {
  const {mode, transposeA, transposeB, free, leading = [], heads = 1, sharedValues = false} = productCase;
  const layout = makeLayout(productCase);
  const normal = new MPRandGauss(0, 1, 'float32', false, 1);
  const make = (letter: string, sides: readonly number[], transposed: boolean): Matrix => {
    const isSparse = letter === 's';
    const denseShape = [...leading, ...(heads === 1 ? [] : [heads]), ...swapIf(transposed, sides)];
    const shape = isSparse ? [...(sharedValues ? [] : leading), layout.nnz, ...layout.blockSize] : denseShape;
    const values = Float32Array.from({length: tf.util.sizeFromShape(shape)}, () => normal.nextValue());
    return {shape, values, isSparse};
  };
  const [ofProduct, ofA, ofB] = mode;
  const [rows, inner, columns] = {
    sdd: [layout.shape[0], free, layout.shape[1]],
    dsd: [...swapIf(transposeA, layout.shape), free],
    dds: [free, ...swapIf(transposeB, layout.shape)],
  }[mode];
  return {
    productCase,
    layout,
    a: make(ofA, [rows, inner], transposeA),
    b: make(ofB, [inner, columns], transposeB),
    weights: make(ofProduct, [rows, columns], false),
  };
}

function swapIf(swap: boolean, [first, second]: readonly number[]): number[] {
  return swap ? [second, first] : [first, second];
}

/** How many matrices a dense operand holds. */
function countOf({productCase: {leading = [], heads = 1}}: Problem): number {
  return tf.util.sizeFromShape(leading) * heads;
}

/** Where the elements of live blocks lie in a dense [count, rows, columns]; values of shared blocks come again. */
export function placesOf(layout: BlockLayout, count: number): number[] {
  const {heads, rowBlocks, colBlocks, blockSize, shape} = layout;
  const places: number[] = [];
  for (let matrix = 0; matrix < count; matrix++) {
    for (let row = 0; row < rowBlocks; row++) {
      for (let col = 0; col < colBlocks; col++) {
        if (!layout.isLive(row, col, matrix % heads)) continue;
        for (let r = row * blockSize[0]; r < (row + 1) * blockSize[0]; r++) {
          for (let c = col * blockSize[1]; c < (col + 1) * blockSize[1]; c++) {
            places.push((matrix * shape[0] + r) * shape[1] + c);
          }
        }
      }
    }
  }
  return places;
}

/** The matrix as a dense one, 0 where no block lives: [count, rows, columns]. */
function spread(problem: Problem, {shape, values, isSparse}: Matrix): {shape: number[]; values: Float32Array} {
  const count = countOf(problem);
  if (!isSparse) return {shape: [count, ...shape.slice(-2)], values};
  const dense = new Float32Array(count * problem.layout.shape[0] * problem.layout.shape[1]);
  placesOf(problem.layout, count).forEach((place, i) => {
    dense[place] = values[i % values.length];
  });
  return {shape: [count, ...problem.layout.shape], values: dense};
}

/** From a dense result to the op's: live blocks only, and the sum over the batch where it shares them. */
function pick(problem: Problem, {values, isSparse}: Matrix, dense: ArrayLike<number>): ArrayLike<number> {
  if (!isSparse) return dense;
  const picked = new Float64Array(values.length);
  placesOf(problem.layout, countOf(problem)).forEach((place, i) => {
    picked[i % values.length] += dense[place];
  });
  return picked;
}

function picked(problem: Problem, {product, a, b}: ProductResult): ProductResult {
  return {
    product: pick(problem, problem.weights, product),
    a: pick(problem, problem.a, a),
    b: pick(problem, problem.b, b),
  };
}

/** The right answer, in float64 and from dense matrices. */
function exactResult(problem: Problem): ProductResult {
  const {transposeA, transposeB} = problem.productCase;
  const [a, b, weights] = [problem.a, problem.b, problem.weights].map((matrix) => spread(problem, matrix));
  const count = countOf(problem);
  const [rows, columns] = weights.shape.slice(1);
  const inner = a.shape[transposeA ? 1 : 2];
  const product = new Float64Array(count * rows * columns);
  const da = new Float64Array(a.values.length);
  const db = new Float64Array(b.values.length);
  for (let matrix = 0; matrix < count; matrix++) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        const at = (matrix * rows + i) * columns + j;
        for (let k = 0; k < inner; k++) {
          const ofA = matrix * rows * inner + (transposeA ? k * rows + i : i * inner + k);
          const ofB = matrix * inner * columns + (transposeB ? j * inner + k : k * columns + j);
          product[at] += a.values[ofA] * b.values[ofB];
          da[ofA] += weights.values[at] * b.values[ofB];
          db[ofB] += weights.values[at] * a.values[ofA];
        }
      }
    }
  }
  return picked(problem, {product, a: da, b: db});
}

/** Product and gradients on the active backend, of whatever `multiply` does. */
async function resultOf(
  [a, b, weights]: {shape: number[]; values: Float32Array}[],
  multiply: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor,
): Promise<ProductResult> {
  const results = tf.tidy(() => {
    const [aTensor, bTensor, weightsTensor] = [a, b, weights].map(({values, shape}) => tf.tensor(values, shape));
    return [multiply(aTensor, bTensor), ...tf.grads(multiply)([aTensor, bTensor], weightsTensor)];
  });
  const [product, da, db] = await Promise.all(results.map((t) => t.data()));
  tf.dispose(results);
  return {product, a: da, b: db};
}

/** The rule: at most twice the error of tfjs's dense product in float32, plus 1e-5. */
export async function expectProductRight(productCase: ProductCase): Promise<void> {
  const problem = makeProblem(productCase);
  const {layout, a, b, weights} = problem;
  const {mode, transposeA, transposeB} = productCase;
  const exact = exactResult(problem);
  const sparse = await resultOf([a, b, weights], (x, y) =>
    blockSparseMatMul(x, y, {layout, mode, transposeA, transposeB}),
  );
  const dense = await resultOf(
    [a, b, weights].map((matrix) => spread(problem, matrix)),
    (x, y) => tf.matMul(x, y, transposeA, transposeB),
  );
  const yardstick = picked(problem, dense);
  for (const name of ['product', 'a', 'b'] as const) {
    expectWithin(name, sparse[name], exact[name], 2 * worstError(yardstick[name], exact[name]));
  }
  layout.dispose();
}
