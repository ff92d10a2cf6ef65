/** Rotary position embedding: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {RotaryEmbedding} from '../src/layers/rotary_embedding.js';
import {expectWithin} from './attention_results.js';

export interface RotaryCase {
  /** [B, S, H, D] */
  shape: [number, number, number, number];
  /** The position of the first token. */
  first?: number;
  base?: number;
}

export const rotaryCases: RotaryCase[] = [
  {shape: [2, 5, 3, 8]},
  {shape: [1, 4, 2, 2], first: 3},
  {shape: [2, 3, 3, 6], first: 1},
  {shape: [1, 1, 4, 64], first: 1000},
  {shape: [3, 37, 1, 12], base: 100},
  {shape: [2, 65, 4, 32], first: 7},
  {shape: [1, 20_000, 1, 10], first: 5},
];

/** x turned by the angles, in float64: pairs half a head apart, as complex numbers. */
function turn(x: ArrayLike<number>, {shape, first = 0, base = 10000}: RotaryCase, sign: 1 | -1): Float64Array {
  const [, S, H, D] = shape;
  const turned = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const [d, token] = [i % D, Math.floor(i / (D * H))];
    const pair = d % (D / 2);
    const angle = (sign * (first + (token % S))) / base ** (pair / (D / 2));
    const real = i - d + pair;
    const [re, im] = [x[real], x[real + D / 2]];
    turned[i] = d === pair ? re * Math.cos(angle) - im * Math.sin(angle) : re * Math.sin(angle) + im * Math.cos(angle);
  }
  return turned;
}

/** The rule: within 1e-5 of float64, and so are gradients, which turn back, and their gradients. */
export async function expectRotaryRight(rotaryCase: RotaryCase): Promise<void> {
  const {shape, first, base = 10000} = rotaryCase;
  const normal = new MPRandGauss(0, 1, 'float32', false, 1);
  const [x, dy] = [1, 2].map(() => Float32Array.from({length: tf.util.sizeFromShape(shape)}, () => normal.nextValue()));
  const rotary = new RotaryEmbedding(shape[3], base);
  const results = tf.tidy(() => {
    const rotate = (t: tf.Tensor) => rotary.rotate(t as tf.Tensor4D, first);
    const [xTensor, dyTensor] = [x, dy].map((values) => tf.tensor4d(values, shape));
    const gradient = (arriving: tf.Tensor) => tf.grad(rotate)(xTensor, arriving);
    return [rotate(xTensor), gradient(dyTensor), tf.grad(gradient)(dyTensor, xTensor)];
  });
  const [turned, dx, again] = await Promise.all(results.map((t) => t.data()));
  tf.dispose(results);
  rotary.dispose();
  expectWithin('x turned', turned, turn(x, rotaryCase, 1), 0);
  expectWithin('gradient', dx, turn(dy, rotaryCase, -1), 0);
  expectWithin('gradient of the gradient', again, turn(x, rotaryCase, 1), 0);
}
