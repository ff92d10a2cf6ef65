/**
 * Products of [batch, size] activations with a butterfly, a Monarch matrix or a dense one as subjects, and tfjs's with a dense
 * one of the same size: y, or the gradients of Σ y·dy.
 */
import * as tf from '@tensorflow/tfjs-core';
import {butterflyBackward, butterflyForward} from '../../kernels/cpu/butterfly_products.js';
import {butterflyMultiply, monarchMatMul} from '../../src/index.js';
import {denseMatMul} from '../../src/ops/dense_mat_mul.js';
import {type Contender, MONARCH_BLOCKS, type StructuredProblem} from '../cases.js';
import type {OpenBackend} from './backend.js';
import {ErrorMeter} from './error_meter.js';
import {randomValues} from './random_values.js';
import type {Results, Subject} from './subject.js';

type Values = ArrayLike<number>;

/** A matrix of either kind. */
interface Matrix {
  /** Shapes of its weights, by name, and their first values' standard deviation. */
  weights: Record<string, {shape: number[]; deviation: number}>;
  multiply(x: tf.Tensor, ...weights: tf.Tensor[]): tf.Tensor;
  /** What is right, in float64, of some or all rows of activations. */
  reference(rows: Rows): Reference;
}

/** Rows of x and dy, [count, size], and the weights' values. */
interface Rows {
  count: number;
  x: Values;
  dy: Values;
  weights: Record<string, Values>;
}

interface Reference {
  y: () => Values;
  dx: () => Values;
  /** Of all rows: the gradients of weights, or parts of them with the place where they begin. */
  dWeights: () => Record<string, {begin: number; values: Values}>;
}

export function structuredSubject(backend: OpenBackend, problem: StructuredProblem & {contender: Contender}): Subject {
  const {kind, size, batch, contender, pass} = problem;
  const makers = {
    butterfly: butterflyMatrix,
    monarch: monarchMatrix,
    'dense product': (n: number) => denseMatrix(n, (x2d, w) => denseMatMul(x2d, w)),
  };
  const matrix = contender === 'dense' ? denseMatrix(size, (x2d, w) => tf.matMul(x2d, w)) : makers[kind](size);
  const values = {x: randomValues(1, batch * size), dy: randomValues(2, batch * size)};
  const weightValues = Object.fromEntries(
    Object.entries(matrix.weights).map(([name, {shape, deviation}], i) => [
      name,
      randomValues(3 + i, tf.util.sizeFromShape(shape)).map((value) => value * deviation),
    ]),
  );
  const onGpu = (of: Float32Array, shape: number[]) => backend.moveToGpu(tf.tensor(of, shape));
  const [x, dy] = [values.x, values.dy].map((of) => onGpu(of, [batch, size]));
  const weights = Object.entries(matrix.weights).map(([name, {shape}]) => onGpu(weightValues[name], shape));
  const names = Object.keys(matrix.weights);
  const gradients = tf.grads((...[input, ...others]: tf.Tensor[]) => matrix.multiply(input, ...others));
  const rowsFrom = (first: number, count: number): Rows => {
    const part = (of: Float32Array) => of.subarray(first * size, (first + count) * size);
    return {count, x: part(values.x), dy: part(values.dy), weights: weightValues};
  };
  return {
    inputs: {x, dy, ...Object.fromEntries(names.map((name, i) => [name, weights[i]]))},
    prepare: () => (): Results => {
      if (pass === 'forward') return {y: tf.tidy(() => matrix.multiply(x, ...weights))};
      const results = gradients([x, ...weights], dy);
      return Object.fromEntries(['dx', ...names].map((name, i) => [name, results[i]]));
    },
    check: async (results): Promise<Record<string, number>> => {
      const name = pass === 'forward' ? 'y' : 'dx';
      const host = await results[name].data();
      const rowMeter = new ErrorMeter();
      for (const row of [0, 1, batch - 1]) {
        rowMeter.compare(host.subarray(row * size, (row + 1) * size), matrix.reference(rowsFrom(row, 1))[name]());
      }
      const errors = {[name]: rowMeter.within(name)};
      if (pass === 'forward') return errors;
      for (const [weight, {begin, values: right}] of Object.entries(matrix.reference(rowsFrom(0, batch)).dWeights())) {
        const actual = (await results[weight].data()).subarray(begin, begin + right.length);
        const meter = new ErrorMeter();
        meter.compare(actual, right);
        errors[`d ${weight}`] = meter.within(`d ${weight}`);
      }
      return errors;
    },
  };
}

function butterflyMatrix(n: number): Matrix {
  const factors = Math.log2(n);
  return {
    weights: {twiddle: {shape: [1, 1, factors, n / 2, 2, 2], deviation: Math.SQRT1_2}},
    multiply: (x, twiddle) => butterflyMultiply(x, twiddle),
    reference: ({count, x, dy, weights}) => {
      const sizes = {batch: count, stacks: 1, blocks: 1, n, factors, inputSize: n, outputSize: n, complex: false};
      const attrs = {increasingStride: true, outputSize: n, transpose: false, conjugate: false};
      const problem = {sizes, attrs, x: {real: x}, twiddle: {real: weights.twiddle}};
      return {
        y: () => butterflyForward(problem).real,
        dx: () => butterflyBackward(problem, {real: dy}).dx.real,
        dWeights: () => ({twiddle: {begin: 0, values: butterflyBackward(problem, {real: dy}).dTwiddle.real}}),
      };
    },
  };
}

/** Two factors of square blocks. Of the weights' gradients one row each is made: to inner element j of block 1. */
function monarchMatrix(n: number): Matrix {
  const blocks = MONARCH_BLOCKS;
  const side = n / blocks;
  const weight = {shape: [blocks, side, side], deviation: 1 / Math.sqrt(side)};
  // Element i of a block of the first factor, and of the second.
  const first = (block: number, i: number) => block * side + i;
  const second = (block: number, i: number) => i * blocks + block;
  const product = (w: Values, x: Values, row: number, place: typeof first, transposed: boolean) => {
    const y = new Float64Array(n);
    for (let block = 0; block < blocks; block++) {
      for (let j = 0; j < side; j++) {
        for (let i = 0; i < side; i++) {
          const entry = w[(block * side + (transposed ? i : j)) * side + (transposed ? j : i)];
          y[place(block, j)] += entry * x[row * n + place(block, i)];
        }
      }
    }
    return y;
  };
  return {
    weights: {w1: weight, w2: weight},
    multiply: (x, w1, w2) => monarchMatMul(x, w1, w2),
    reference: ({count, x, dy, weights: {w1, w2}}) => {
      const between = (row: number) => product(w1, x, row, first, false);
      /** One element of it. */
      const betweenAt = (row: number, element: number) => {
        const block = Math.floor(element / side);
        let sum = 0;
        for (let i = 0; i < side; i++) sum += w1[element * side + i] * x[row * n + first(block, i)];
        return sum;
      };
      const returned = (row: number) => product(w2, dy, row, second, true);
      const sumOverRows = (term: (row: number, sum: Float64Array) => void) => {
        const sum = new Float64Array(side);
        for (let row = 0; row < count; row++) term(row, sum);
        return sum;
      };
      const j = side >> 1;
      const begin = (side + j) * side;
      return {
        y: () => product(w2, between(0), 0, second, false),
        dx: () => product(w1, returned(0), 0, first, true),
        dWeights: () => ({
          w1: {
            begin,
            values: sumOverRows((row, sum) => {
              // dh of one element: its column of the second factor against dy.
              const element = first(1, j);
              const [block, i] = [element % blocks, Math.floor(element / blocks)];
              let dh = 0;
              for (let o = 0; o < side; o++) dh += w2[(block * side + o) * side + i] * dy[row * n + second(block, o)];
              for (let k = 0; k < side; k++) sum[k] += dh * x[row * n + first(1, k)];
            }),
          },
          w2: {
            begin,
            values: sumOverRows((row, sum) => {
              for (let k = 0; k < side; k++) sum[k] += dy[row * n + second(1, j)] * betweenAt(row, second(1, k));
            }),
          },
        }),
      };
    },
  };
}

/** One row of the weight's gradient is made. */
function denseMatrix(n: number, product: (x: tf.Tensor2D, w: tf.Tensor2D) => tf.Tensor): Matrix {
  return {
    weights: {w: {shape: [n, n], deviation: 1 / Math.sqrt(n)}},
    multiply: (x, w) => product(x as tf.Tensor2D, w as tf.Tensor2D),
    reference: ({count, x, dy, weights: {w}}) => {
      const row = (of: Values, transposed: boolean) => {
        const sum = new Float64Array(n);
        for (let i = 0; i < n; i++) {
          for (let o = 0; o < n; o++) sum[o] += of[i] * w[transposed ? o * n + i : i * n + o];
        }
        return sum;
      };
      return {
        y: () => row(x, false),
        dx: () => row(dy, true),
        dWeights: () => {
          const values = new Float64Array(n);
          for (let b = 0; b < count; b++) {
            for (let o = 0; o < n; o++) values[o] += x[b * n + (n >> 1)] * dy[b * n + o];
          }
          return {w: {begin: (n >> 1) * n, values}};
        },
      };
    },
  };
}
