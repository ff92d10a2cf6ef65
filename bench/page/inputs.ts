/** The tensors of a case, on the GPU before anything is measured, and their values for the check of the answer. */
import * as tf from '@tensorflow/tfjs-core';
import type {AttentionProblem as Problem} from '../cases.js';
import type {OpenBackend} from './backend.js';
import {randomValues} from './random_values.js';

const inputNames = ['q', 'k', 'v', 'weights'] as const;

/** k and v, [B, H, S, D], q and the weights of the sum whose gradient is taken, [B, H, Sq, D]. */
export type Inputs = Record<(typeof inputNames)[number], tf.Tensor4D>;
export type InputValues = Record<(typeof inputNames)[number], Float32Array>;

export function randomInputs({batch, heads, sequence, depth, queries = sequence}: Problem): InputValues {
  const values = (seed: number, rows: number) => randomValues(seed, batch * heads * rows * depth);
  return {q: values(1, queries), k: values(2, sequence), v: values(3, sequence), weights: values(4, queries)};
}

export function uploadInputs(backend: OpenBackend, problem: Problem, values: InputValues): Inputs {
  const [q, k, v, weights] = inputNames.map((name) => upload(backend, problem, values[name]));
  return {q, k, v, weights};
}

/** A tensor [B, H, rows, D] that already lies on the GPU. */
export function upload(backend: OpenBackend, {batch, heads, depth}: Problem, values: Float32Array): tf.Tensor4D {
  const rows = values.length / (batch * heads * depth);
  return backend.moveToGpu(tf.tensor4d(values, [batch, heads, rows, depth]));
}
