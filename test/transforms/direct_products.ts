/** Transforms by their definitions, as plain double loops in float64, and the rule that judges the fast ones. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {applyTransform, type ComplexPair, type FastTransform} from '../../src/index.js';
import {worstError} from '../attention_results.js';

/** Row k, column j of the matrix of a transform: a real number, or [real, imaginary]. */
export type Entry = (k: number, j: number) => number | [real: number, imag: number];

type RealEntry = (k: number, j: number) => number;

/** exp(i·angle), times `radius`. */
export const phase = (angle: number, radius = 1): [number, number] => [
  radius * Math.cos(angle),
  radius * Math.sin(angle),
];

/** Normal numbers, the same every time. */
export function normalValues(length: number, seed = 1): Float32Array {
  const normal = new MPRandGauss(0, 1, 'float32', false, seed);
  return Float32Array.from({length}, () => normal.nextValue());
}

/** A random order of 0 … n − 1, the same every time. */
export function randomOrder(n: number, seed = 1): number[] {
  const keys = normalValues(n, seed);
  return Array.from(keys.keys()).sort((a, b) => keys[a] - keys[b]);
}

/** The product of two matrices of n × n elements, as the entries of one. */
export function matrixProduct(n: number, left: RealEntry, right: RealEntry): RealEntry {
  const product = new Float64Array(n * n);
  const rightValues = Float64Array.from({length: n * n}, (_, i) => right(Math.floor(i / n), i % n));
  for (let k = 0; k < n; k++) {
    for (let m = 0; m < n; m++) {
      const value = left(k, m);
      for (let j = 0; j < n; j++) product[k * n + j] += value * rightValues[m * n + j];
    }
  }
  return (k, j) => product[k * n + j];
}

const BATCH = 3;

/** Applies the transform to complex numbers, and compares with the products of the matrix with them. */
export async function expectMatrix(transform: FastTransform, entry: Entry): Promise<void> {
  const [inputs, outputs] = [transform.inputShape, transform.outputShape].map(tf.util.sizeFromShape as Size);
  const x = [normalValues(BATCH * inputs, 2), normalValues(BATCH * inputs, 3)];
  const y = [new Float64Array(BATCH * outputs), new Float64Array(BATCH * outputs)];
  for (let k = 0; k < outputs; k++) {
    for (let j = 0; j < inputs; j++) {
      const value = entry(k, j);
      const [a, b] = typeof value === 'number' ? [value, 0] : value;
      for (let row = 0; row < BATCH; row++) {
        const from = row * inputs + j;
        y[0][row * outputs + k] += a * x[0][from] - b * x[1][from];
        y[1][row * outputs + k] += a * x[1][from] + b * x[0][from];
      }
    }
  }
  const [real, imag] = x.map((part) => tf.tensor(part, [BATCH, ...transform.inputShape]));
  const given = applyTransform({real, imag}, transform);
  expect(given.real.shape).toEqual([BATCH, ...transform.outputShape]);
  await expectClose(given, y, transform);
}

type Size = (shape: readonly number[]) => number;

/**
 * Judged relative to the largest value that is right, as float32 rounds: per factor a sum of two complex products
 * rounds by less than four units, and its entries by one. The factors have no element that is large beside what they
 * make of x.
 */
export async function expectClose(
  given: ComplexPair,
  right: readonly ArrayLike<number>[],
  transform: FastTransform,
  roundings = roundingsOf(transform),
): Promise<void> {
  const values = await Promise.all([given.real.data(), given.imag.data()]);
  const largest = Math.max(...right.map((part) => worstError(part, new Float64Array(part.length))));
  values.forEach((part, i) => {
    expect(part.length).toBe(right[i].length);
    const error = worstError(part, right[i]) / largest;
    expect(error)
      .withContext(`${i === 0 ? 'real' : 'imaginary'} part, relative error`)
      .toBeLessThanOrEqual(roundings * 2 ** -24);
  });
}

function roundingsOf({stages}: FastTransform): number {
  const factors = stages.map((stage) => ('indices' in stage ? 0 : stage.twiddleShape[1] * stage.twiddleShape[2]));
  return 5 * factors.reduce((sum, count) => sum + count);
}

/** Whether all rows and columns of the matrix of the transform have norm 1 and are orthogonal. */
export async function expectUnitary(transform: FastTransform): Promise<void> {
  const n = transform.inputShape.reduce((product, size) => product * size);
  const identity = tf.eye(n).reshape([n, ...transform.inputShape]);
  const rows = applyTransform({real: identity, imag: tf.zerosLike(identity)}, transform);
  const [a, b] = [rows.real, rows.imag].map((part) => part.reshape([n, n]));
  const products = (left: tf.Tensor, right: tf.Tensor) => tf.matMul(left, right, false, true);
  const real = tf.add(products(a, a), products(b, b));
  const imag = tf.sub(products(b, a), products(a, b));
  await expectClose({real, imag}, [await tf.eye(n).data(), new Float32Array(n * n)], transform);
}
