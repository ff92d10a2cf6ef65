/** The Monarch matrix nearest to a dense one. */
import {clone, type Tensor, type Tensor3D, type TensorContainer, tensor, tidy} from '@tensorflow/tfjs-core';
import {Matrix, SingularValueDecomposition} from 'ml-matrix';
import {type ComplexPair, formOf, inForm, type MaybeComplex, toParts} from '../ops/complex_numbers.js';

/** Options of {@link monarchProject}. */
export interface MonarchProjectOptions {
  /** Blocks of either factor, k = l; more make it smaller. Must divide both sides of the matrix. */
  blocks: number;
}

/** What {@link monarchProject} finds. */
export interface MonarchProjection<T> {
  /** [blocks, q, n / blocks]. */
  w1: T;
  /** [blocks, m / blocks, q]. */
  w2: T;
  /** The Frobenius norm of the difference between Monarch and dense matrix, before w1 and w2 are rounded. */
  error: number;
}

/**
 * The Monarch matrix nearest to a dense one in the Frobenius norm: `monarchMatMul(x, w1, w2)` comes as close to W·x as
 * any of these sizes does. What leads from one block of w1 to one block of w2 has the rank q / blocks; so each such part
 * of W is replaced by the leading terms of its singular value decomposition.
 *
 * It is computed on the host in float64, in O(m·n·min(m, n) / blocks) steps: seconds for 3072 × 768, in which the page
 * waits.
 *
 * Source: Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training" (2022, arXiv
 * 2204.00595).
 *
 * ```js
 * const dense = tf.randomNormal([24, 16]);
 * const {w1, w2, error} = await tf.monarchProject(dense, {blocks: 4});
 * const difference = tf.norm(tf.sub(tf.monarchToDense(w1, w2), dense)); // error
 * console.log(w1.shape, w2.shape); // [4, 4, 4] [4, 6, 4]
 * ```
 *
 * @param dense W [m, n], float32 or complex64 or a pair. m and n may be any multiples of `blocks`.
 * @param options see {@link MonarchProjectOptions}.
 * @returns w1, w2 and the error. q is min(m, n) / blocks, rounded to a multiple of `blocks`, and at least `blocks`. w1
 *   and w2 are pairs, complex64 or float32, as dense is.
 * @throws Error that shows the shape, if it does not fit, and where dense has values that are not finite.
 */
export function monarchProject(
  dense: ComplexPair,
  options: MonarchProjectOptions,
): Promise<MonarchProjection<ComplexPair>>;
export function monarchProject(
  dense: Exclude<MaybeComplex, ComplexPair>,
  options: MonarchProjectOptions,
): Promise<MonarchProjection<Tensor3D>>;
export async function monarchProject(
  dense: MaybeComplex,
  options: MonarchProjectOptions,
): Promise<MonarchProjection<Tensor | ComplexPair>> {
  const {sizes, parts} = tidy(() => {
    const {real, imag} = toParts('monarchProject', 'dense', dense);
    const sizes = monarchSizes(real.shape, options);
    return {sizes, parts: (imag ? [real, imag] : [real]).map((part) => clone(part))};
  });
  const values = await Promise.all(parts.map((part) => part.data<'float32'>()));
  for (const part of parts) part.dispose();
  if (values.some((part) => !part.every(Number.isFinite))) {
    throw new Error('monarchProject: dense has values that are not finite.');
  }
  const {w1, w2, error} = project(values, sizes);
  const {blocks, inner, p, s} = sizes;
  const toResult = (factor: Float64Array[], shape: number[]) =>
    tidy(() => {
      const [real, imag] = factor.map((part) => tensor(Float32Array.from(part), shape));
      return inForm(formOf(dense), {real, imag}) as TensorContainer;
    }) as Tensor | ComplexPair;
  return {w1: toResult(w1, [blocks, inner, p]), w2: toResult(w2, [blocks, s, inner]), error};
}

/** A type, because an interface is nothing that tidy returns. */
type MonarchSizes = {
  blocks: number;
  /** Inputs and outputs. */
  n: number;
  m: number;
  /** Inputs of a block of w1, and outputs of a block of w2. */
  p: number;
  s: number;
  /** Outputs of a block of w1 and inputs of a block of w2: `rank` for each block of the other. */
  inner: number;
  rank: number;
};

function monarchSizes(shape: number[], {blocks}: MonarchProjectOptions): MonarchSizes {
  const [m, n] = shape;
  const isCount = Number.isInteger(blocks) && blocks > 0;
  if (shape.length !== 2 || !isCount || m === 0 || n === 0 || m % blocks !== 0 || n % blocks !== 0) {
    throw new Error(
      'monarchProject: dense must be [m, n] with m and n multiples of blocks, a positive integer; ' +
        `got dense [${shape.join(', ')}], blocks ${blocks}.`,
    );
  }
  const rank = monarchRank(m, n, blocks);
  return {blocks, n, m, p: n / blocks, s: m / blocks, inner: rank * blocks, rank};
}

/** The rank of what leads from a block of w1 to one of w2, with which the factors' inner sides come closest to square. */
export function monarchRank(m: number, n: number, blocks: number): number {
  return Math.max(1, Math.round(Math.min(m, n) / blocks ** 2));
}

interface Factors {
  w1: Float64Array[];
  w2: Float64Array[];
  error: number;
}

/** Each matrix is given by its real part and, if it is complex, its imaginary part. */
function project(dense: Float32Array[], sizes: MonarchSizes): Factors {
  const {blocks, p, s, inner, rank} = sizes;
  const zeros = (size: number) => dense.map(() => new Float64Array(size));
  const [w1, w2] = [zeros(blocks * inner * p), zeros(blocks * s * inner)];
  let discarded = 0;
  for (let from = 0; from < blocks; from++) {
    for (let to = 0; to < blocks; to++) {
      const part = partOf(dense, sizes, from, to);
      const terms = leadingTerms(part, dense.length, rank);
      discarded += terms.discarded;
      terms.right.forEach((right, t) => {
        const left = terms.left[t];
        for (let i = 0; i < p; i++) {
          const place = (from * inner + t * blocks + to) * p + i;
          w1[0][place] = right[i];
          // T is a sum of left·rightᴴ.
          if (w1[1]) w1[1][place] = -right[p + i];
        }
        for (let row = 0; row < s; row++) {
          const place = (to * s + row) * inner + from * rank + t;
          w2.forEach((values, i) => {
            values[place] = left[i * s + row];
          });
        }
      });
    }
  }
  return {w1, w2, error: Math.sqrt(discarded)};
}

/**
 * What leads from block `from` of the input to block `to` of the output, T[σ, i] = W[σ·blocks + to, from·p + i]. A
 * complex matrix A + iB is the real one [[A, −B], [B, A]], which does to [Re v, Im v] what it does to v.
 */
function partOf([real, imag]: Float32Array[], {n, p, s, blocks}: MonarchSizes, from: number, to: number): Matrix {
  const copies = imag ? 2 : 1;
  const part = new Matrix(copies * s, copies * p);
  for (let row = 0; row < s; row++) {
    for (let i = 0; i < p; i++) {
      const place = (row * blocks + to) * n + from * p + i;
      part.set(row, i, real[place]);
      if (imag) {
        part.set(s + row, p + i, real[place]);
        part.set(s + row, i, imag[place]);
        part.set(row, p + i, -imag[place]);
      }
    }
  }
  return part;
}

/** Vectors; a complex one is its real part and then its imaginary part. */
type Vectors = number[][];

/**
 * The largest `rank` terms left·rightᴴ of the singular value decomposition, where both vectors have the length √S, and
 * the sum of the squares of the other singular values.
 */
function leadingTerms(part: Matrix, copies: number, rank: number): {left: Vectors; right: Vectors; discarded: number} {
  const svd = new SingularValueDecomposition(part, {computeLeftSingularVectors: false, autoTranspose: true});
  const directions = copies === 1 ? columns(svd.rightSingularVectors).slice(0, rank) : complexDirections(svd, rank);
  const images = columns(part.mmul(new Matrix(directions).transpose()));
  const lengths = images.map(lengthOf);
  const discarded = svd.diagonal.slice(rank * copies).reduce((sum, value) => sum + value ** 2 / copies, 0);
  return {
    left: images.map((image, t) => image.map((x) => (lengths[t] > 0 ? x / Math.sqrt(lengths[t]) : 0))),
    right: directions.map((direction, t) => direction.map((x) => x * Math.sqrt(lengths[t]))),
    discarded,
  };
}

/**
 * The leading right singular vectors of a complex matrix, from those of the real one that stands for it. That has each
 * singular value twice, for v and for iv, and in the plane of these two, or among equal singular values in a larger
 * space, any orthonormal basis. So from each group of equal values as many are taken as are independent over the
 * complex numbers: always that which is farthest from the span of those taken before. Of μ values that are equal, each
 * twice, the farthest one has a squared distance of at least 1/μ until μ have been taken, and then none has any.
 */
function complexDirections({diagonal, rightSingularVectors}: SingularValueDecomposition, rank: number): Vectors {
  const taken: Vectors = [];
  let rest = columns(rightSingularVectors).map((vector, i) => ({value: diagonal[i], vector}));
  while (taken.length < rank) {
    const equal = rest.filter(({value}) => value >= rest[0].value - EQUAL_VALUES * diagonal[0]);
    const lengths = equal.map(({vector}) => lengthOf(vector));
    const length = Math.max(...lengths);
    if (length < NO_LENGTH) {
      rest = rest.slice(equal.length);
      continue;
    }
    const direction = equal[lengths.indexOf(length)].vector.map((x) => x / length);
    taken.push(direction);
    for (const {vector} of rest) {
      for (const unit of [direction, timesI(direction)]) removeComponent(vector, unit);
    }
  }
  return taken;
}

/** Relative to the largest; values that differ more have vectors that do. */
const EQUAL_VALUES = 1e-9;
/** Well below √(1/μ) of any μ that fits into memory, and well above rounding errors. */
const NO_LENGTH = 1e-3;

function timesI(vector: number[]): number[] {
  const half = vector.length / 2;
  return [...vector.slice(half).map((x) => -x), ...vector.slice(0, half)];
}

function removeComponent(vector: number[], unit: number[]): void {
  const component = unit.reduce((sum, x, i) => sum + x * vector[i], 0);
  unit.forEach((x, i) => {
    vector[i] -= component * x;
  });
}

function lengthOf(vector: number[]): number {
  return Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
}

function columns(matrix: Matrix): Vectors {
  return matrix.transpose().to2DArray();
}
