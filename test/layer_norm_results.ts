/** Layer normalization: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {
  layerNormBackward,
  layerNormForward,
  layerNormWeightsBackward,
  rowStatsOf,
} from '../kernels/cpu/layer_norm_rows.js';
import {layerNormSizes} from '../kernels/layer_norm_kernels.js';
import {layerNorm} from '../src/index.js';
import {expectWithin, worstError} from './attention_results.js';

declare const FULL_GRID: boolean;

export interface LayerNormCase {
  shape: number[];
  epsilon?: number;
  /** The mean of x, whose standard deviation is 1. */
  offset?: number;
}

export const layerNormCases: LayerNormCase[] = [
  {shape: [4, 7]},
  {shape: [2, 3, 16], epsilon: 1e-3},
  {shape: [2, 3, 5, 9]},
  {shape: [3, 64], offset: 300},
  {shape: [16]},
  {shape: [9]},
  {shape: [5, 1]},
  {shape: [1, 1]},
  {shape: [6, 2]},
  {shape: [1, 600]},
  {shape: [2, 5000]},
  {shape: [3, 5001], offset: -5},
  {shape: [300, 260]},
  {shape: [3, 101, 67]},
  {shape: [20_000, 3]},
  {shape: [2, 1, 8]},
  {shape: [1, 50_001]},
  ...(FULL_GRID ? [{shape: [70_000, 3]}, {shape: [1, 150_001]}] : []),
];

const names = ['y', 'x', 'gamma', 'beta'] as const;
type Result = Record<(typeof names)[number], ArrayLike<number>>;

interface Inputs {
  shape: number[];
  epsilon: number;
  x: Float32Array;
  gamma: Float32Array;
  beta: Float32Array;
  dy: Float32Array;
}

function makeInputs({shape, epsilon = 1e-5, offset = 0}: LayerNormCase): Inputs {
  const normal = new MPRandGauss(0, 1, 'float32', false, 1);
  const draw = (count: number, mean = 0) => Float32Array.from({length: count}, () => mean + normal.nextValue());
  const width = shape[shape.length - 1];
  const size = tf.util.sizeFromShape(shape);
  return {shape, epsilon, x: draw(size, offset), gamma: draw(width, 1), beta: draw(width), dy: draw(size)};
}

/** The right answer, in float64; gradients under the names of the inputs. */
function exactResult({shape, epsilon, x, gamma, beta, dy}: Inputs): Result {
  const sizes = layerNormSizes({shape, dtype: 'float32', dataId: {}});
  const stats = rowStatsOf(x, sizes, epsilon);
  const {dGamma, dBeta} = layerNormWeightsBackward(x, stats, dy, sizes);
  return {
    y: layerNormForward(x, gamma, beta, stats, sizes),
    x: layerNormBackward(x, gamma, stats, dy, sizes),
    gamma: dGamma,
    beta: dBeta,
  };
}

type Normalization = (x: tf.Tensor, gamma: tf.Tensor1D, beta: tf.Tensor1D) => tf.Tensor;

async function resultOf(inputs: Inputs, normalize: Normalization): Promise<Result> {
  const results = tf.tidy(() => {
    const {shape} = inputs;
    const xs = [tf.tensor(inputs.x, shape), tf.tensor1d(inputs.gamma), tf.tensor1d(inputs.beta)];
    const onTensors = (...[x, gamma, beta]: tf.Tensor[]) => normalize(x, gamma as tf.Tensor1D, beta as tf.Tensor1D);
    return [onTensors(...xs), ...tf.grads(onTensors)(xs, tf.tensor(inputs.dy, shape))];
  });
  const [y, x, gamma, beta] = await Promise.all(results.map((t) => t.data()));
  tf.dispose(results);
  return {y, x, gamma, beta};
}

/** The formula in tfjs's ops. */
function unfused(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: number): tf.Tensor {
  const {mean, variance} = tf.moments(x, -1, true);
  const normalized = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, epsilon)));
  return tf.add(tf.mul(normalized, gamma), beta);
}

/** The rule: at most twice the error of the formula in tfjs's ops in float32, three times for gradients, plus 1e-5. */
export async function expectLayerNormRight(layerNormCase: LayerNormCase): Promise<void> {
  const inputs = makeInputs(layerNormCase);
  const {epsilon} = inputs;
  const exact = exactResult(inputs);
  const actual = await resultOf(inputs, (x, gamma, beta) => layerNorm(x, gamma, beta, {epsilon}));
  const yardstick = await resultOf(inputs, (x, gamma, beta) => unfused(x, gamma, beta, epsilon));
  for (const name of names) {
    const factor = name === 'y' ? 2 : 3;
    expectWithin(name, actual[name], exact[name], factor * worstError(yardstick[name], exact[name]));
  }
}
