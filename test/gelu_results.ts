/** gelu: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {gelu} from '../src/index.js';
import {expectWithin} from './attention_results.js';

export interface GeluCase {
  shape: number[];
  approximate?: boolean;
  bias?: boolean;
}

const shapes = [[], [1], [7], [8], [5, 7], [3, 8], [1, 5], [9, 1], [2, 3, 6], [3, 5, 7], [2, 3, 4, 5], [2, 1, 3, 3, 4]];

export const geluCases: GeluCase[] = [
  ...shapes.map((shape) => ({shape})),
  ...shapes.map((shape) => ({shape, approximate: true})),
  ...shapes.filter(({length}) => length > 0).map((shape) => ({shape, bias: true})),
  {shape: [5, 7], approximate: true, bias: true},
  {shape: [4, 33, 132], approximate: true, bias: true},
  // More rows than WebGPU has workgroups along a dimension, in several chunks of a sum.
  {shape: [70_001, 2], approximate: true, bias: true},
];

/** Φ in float64, by its series or its continued fraction (Abramowitz and Stegun, 26.2.11 and 26.2.14). */
export function normalCumulative(x: number): number {
  const z = Math.abs(x);
  const density = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI);
  if (z < 2) {
    let [term, sum] = [z, z];
    for (let n = 1; n < 60; n++) {
      term *= (z * z) / (2 * n + 1);
      sum += term;
    }
    return 0.5 + Math.sign(x) * density * sum;
  }
  let fraction = z;
  for (let n = 200; n > 0; n--) fraction = z + n / fraction;
  return x < 0 ? density / fraction : 1 - density / fraction;
}

export function exactGelu(x: number, approximate: boolean): number {
  if (!approximate) return x * normalCumulative(x);
  // ½·(1 + tanh(u)), without its cancellation.
  return x / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** By central differences. */
export function exactSlope(x: number, approximate: boolean): number {
  const h = 1e-4;
  return (exactGelu(x + h, approximate) - exactGelu(x - h, approximate)) / (2 * h);
}

/** Normal values, with a few far from 0 among them where there are many. */
function makeValues(count: number, seed: number): Float32Array {
  const normal = new MPRandGauss(0, 2, 'float32', false, seed);
  const far = [100, -100, 0, -7, 12, -30];
  return Float32Array.from({length: count}, (_, i) => (count > 30 && i < far.length ? far[i] : normal.nextValue()));
}

function largest(values: ArrayLike<number>): number {
  return Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** Value, gradient for x and gradient for bias of one case, on the active backend, against float64. */
export async function expectGeluRight({shape, approximate = false, bias = false}: GeluCase): Promise<void> {
  const size = tf.util.sizeFromShape(shape);
  const width = shape[shape.length - 1] ?? 1;
  const [values, weights] = [makeValues(size, 1), makeValues(size, 2)];
  const added = makeValues(width, 3).map((value) => (bias ? value : 0));
  const sums = Float64Array.from(values, (value, i) => Math.fround(value + added[i % width]));
  const dx = sums.map((sum, i) => weights[i] * exactSlope(sum, approximate));
  const [dBias, magnitude] = [new Float64Array(width), new Float64Array(width)];
  dx.forEach((value, i) => {
    dBias[i % width] += value;
    magnitude[i % width] += Math.abs(value);
  });

  const results = tf.tidy(() => {
    const dy = tf.tensor(weights, shape);
    const f = (...[x, b]: tf.Tensor[]) => gelu(x, {approximate, ...(b && {bias: b as tf.Tensor1D})});
    const args = [tf.tensor(values, shape), ...(bias ? [tf.tensor(added)] : [])];
    return [f(...args), ...tf.grads(f)(args, dy)];
  });
  expect(results.slice(0, 2).map((t) => t.shape)).toEqual([shape, shape]);
  const [y, ...gradients] = await Promise.all(results.map((t) => t.data()));
  tf.dispose(results);
  expectWithin(
    'value',
    y,
    sums.map((sum) => exactGelu(sum, approximate)),
    0,
  );
  expectWithin('gradient for x', gradients[0], dx, 3e-7 * largest(weights));
  if (bias) expectWithin('gradient for bias', gradients[1], dBias, 3e-7 * largest(magnitude));
}
