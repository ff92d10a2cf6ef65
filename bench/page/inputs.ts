/** The tensors of a case, on the GPU before anything is measured, and their values for the check of the answer. */
import * as tf from '@tensorflow/tfjs-core';
import type {AttentionProblem as Problem} from '../cases.js';
import type {OpenBackend} from './backend.js';
import {randomValues} from './random_values.js';

const inputNames = ['q', 'k', 'v', 'weights'] as const;

/** q, k, v and the weights of the sum whose gradient is taken, all [B, H, S, D]. */
export type Inputs = Record<(typeof inputNames)[number], tf.Tensor4D>;
export type InputValues = Record<(typeof inputNames)[number], Float32Array>;

export function randomInputs({batch, heads, sequence, depth}: Problem): InputValues {
  const count = batch * heads * sequence * depth;
  const [q, k, v, weights] = inputNames.map((_, i) => randomValues(i + 1, count));
  return {q, k, v, weights};
}

export function uploadInputs(backend: OpenBackend, problem: Problem, values: InputValues): Inputs {
  const [q, k, v, weights] = inputNames.map((name) => upload(backend, problem, values[name]));
  return {q, k, v, weights};
}

/** A tensor that already lies on the GPU. */
export function upload(backend: OpenBackend, problem: Problem, values: Float32Array): tf.Tensor4D {
  const {batch, heads, sequence, depth} = problem;
  return backend.moveToGpu(tf.tensor4d(values, [batch, heads, sequence, depth]));
}
