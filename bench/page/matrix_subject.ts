/**
 * Products with a flat block butterfly as subjects, by themselves and in a layer, and their dense counterparts of the same
 * shape: y, or the gradients of Σ y·dy.
 */
import * as tf from '@tensorflow/tfjs-core';
import {layers} from '@tensorflow/tfjs-layers';
import {blockSparseMatMul} from '../../src/index.js';
import {pixelflyDense} from '../../src/layers/index.js';
import {butterflyOf, type Contender, type MatrixProblem, rankOf} from '../cases.js';
import type {OpenBackend} from './backend.js';
import {Butterfly} from './butterfly.js';
import {ErrorMeter} from './error_meter.js';
import {randomValues} from './random_values.js';
import type {Results, Subject} from './subject.js';

type MatrixCase = MatrixProblem & {contender: Contender};

/** Rows of y and dx that are compared with float64. */
const sampledRows = (size: number) => [0, 1, size / 2 + 33, size - 1];

export function productSubject(backend: OpenBackend, problem: MatrixCase): Subject {
  const {size, contender, pass} = problem;
  const {x, dy, xValues, dyValues} = activations(backend, size);
  const butterfly = new Butterfly(problem, (count) => randomValues(3, count));
  const {layout} = butterfly;
  const isSparse = contender === 'sparse';
  const w = backend.moveToGpu(
    isSparse
      ? tf.tensor(butterfly.values, [layout.nnz, ...layout.blockSize])
      : tf.tensor(butterfly.toDense(), [size, size]),
  );
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
    check: async ({y, dx, dw}): Promise<Record<string, number>> => {
      if (y) return {y: await rowError('y', y, (row) => butterfly.timesRow(rowOf(xValues, row, size), false))};
      const meter = new ErrorMeter();
      for (const block of butterfly.sampledBlocks()) {
        const begin = isSparse ? [block, 0, 0] : butterfly.firstElement(block);
        const shape = isSparse ? [1, ...layout.blockSize] : [...layout.blockSize];
        meter.compare(await part(dw, begin, shape), butterfly.outerProduct(block, xValues, dyValues));
      }
      return {
        dx: await rowError('dx', dx, (row) => butterfly.timesRow(rowOf(dyValues, row, size), true)),
        dw: meter.within('dw'),
      };
    },
  };
}

/** `pixelflyDense` against `tf.layers.dense`, with the gradients of all weights and of the input. */
export function layerSubject(backend: OpenBackend, problem: MatrixCase): Subject {
  const {size, blockSize, contender, pass} = problem;
  const {x, dy, xValues, dyValues} = activations(backend, size);
  const isSparse = contender === 'sparse';
  const layer = isSparse
    ? pixelflyDense({units: size, blockSize, ...butterflyOf(problem), rank: rankOf(problem), seed: 1})
    : layers.dense({units: size});
  layer.build([size, size]);
  const weights = Object.fromEntries(
    layer.trainableWeights.map((weight) => [weight.originalName.replace(/.*\//, ''), weight.read() as tf.Variable]),
  );
  const forward = () => layer.apply(x) as tf.Tensor;
  return {
    inputs: {x, dy, ...weights},
    prepare: () => (): Results => {
      if (pass === 'forward') return {y: tf.tidy(forward)};
      const {value, grads} = tf.engine().gradients(forward, [x, ...Object.values(weights)], dy);
      value.dispose();
      return Object.fromEntries(['dx', ...Object.keys(weights)].map((name, i) => [name, grads[i]]));
    },
    check: async ({y, dx}): Promise<Record<string, number>> => {
      const host: Record<string, ArrayLike<number>> = {};
      for (const [name, weight] of Object.entries(weights)) host[name] = await weight.data();
      const timesRow = isSparse ? pixelflyRow(problem, host) : denseRow(size, host.kernel);
      if (y) return {y: await rowError('y', y, (row) => timesRow(rowOf(xValues, row, size), false))};
      return {dx: await rowError('dx', dx, (row) => timesRow(rowOf(dyValues, row, size), true))};
    },
  };
}

/** row·½(W + V·U), or times its transpose, in float64. The bias is 0 at first. */
function pixelflyRow(problem: MatrixProblem, weights: Record<string, ArrayLike<number>>) {
  const {size} = problem;
  const butterfly = new Butterfly(problem, () => Float32Array.from(weights.sparse_kernel));
  const rank = rankOf(problem);
  const {low_rank_in: v, low_rank_out: u} = weights;
  return (row: ArrayLike<number>, transposed: boolean) => {
    const between = new Float64Array(rank);
    for (let i = 0; i < size; i++) {
      for (let r = 0; r < rank; r++) between[r] += row[i] * (transposed ? u[r * size + i] : v[i * rank + r]);
    }
    return butterfly.timesRow(row, transposed).map((value, i) => {
      let sum = value;
      for (let r = 0; r < rank; r++) sum += between[r] * (transposed ? v[i * rank + r] : u[r * size + i]);
      return sum / 2;
    });
  };
}

function denseRow(size: number, kernel: ArrayLike<number>) {
  return (row: ArrayLike<number>, transposed: boolean) => {
    const product = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      for (let o = 0; o < size; o++) product[o] += row[i] * kernel[transposed ? o * size + i : i * size + o];
    }
    return product;
  };
}

function activations(backend: OpenBackend, size: number) {
  const [xValues, dyValues] = [randomValues(1, size * size), randomValues(2, size * size)];
  const [x, dy] = [xValues, dyValues].map((values) => backend.moveToGpu(tf.tensor2d(values, [size, size])));
  return {x, dy, xValues, dyValues};
}

async function rowError(name: string, result: tf.Tensor, expected: (row: number) => Float64Array): Promise<number> {
  const size = result.shape[1] as number;
  const meter = new ErrorMeter();
  for (const row of sampledRows(size)) meter.compare(await part(result, [row, 0], [1, size]), expected(row));
  return meter.within(name);
}

function rowOf(matrix: Float32Array, row: number, size: number): Float32Array {
  return matrix.subarray(row * size, (row + 1) * size);
}

async function part(tensor: tf.Tensor, begin: readonly number[], size: readonly number[]): Promise<ArrayLike<number>> {
  const slice = tf.slice(tensor, [...begin], [...size]);
  const values = await slice.data();
  slice.dispose();
  return values;
}
