/** The attentions that are measured side by side, each as one call that gives the tensors it computes. */
import * as tf from '@tensorflow/tfjs-core';
import {BlockLayout, flashAttention} from '../../src/index.js';
import type {AttentionProblem, Contender} from '../cases.js';
import type {Inputs} from './inputs.js';

/** What a call computes: `output`, or `dq`, `dk` and `dv`. The caller disposes it. */
export type AttentionResults = Record<string, tf.Tensor4D>;
export type AttentionCall = () => AttentionResults;

export type Attend = (q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D) => tf.Tensor4D;

/** A mask value far below any score, yet harmless when a score is added to it in float32. */
const hidden = -1e9;

/**
 * The attention of a contender; makes what it needs before its first call, so call it after the count of bytes began.
 */
export function attentionOf(problem: AttentionProblem & {contender: Contender}): Attend {
  const {contender, causal, sequence, depth, precision} = problem;
  const makers: Partial<Record<Contender, () => Attend>> = {
    flash: () => (q, k, v) => flashAttention(q, k, v, {causal, precision}),
    unfused: () => unfused(1 / Math.sqrt(depth), causal ? causalMask(sequence) : undefined),
    sparse: () => {
      const layout = butterflyLayout(problem);
      return (q, k, v) => flashAttention(q, k, v, {causal, layout});
    },
    dense: () => (q, k, v) => flashAttention(q, k, v, {causal}),
  };
  const make = makers[contender];
  if (!make) throw new Error(`No attention is ${contender}.`);
  return make();
}

/** The layout of sparse attention: the whole butterfly, with the neighbourhood and the first tokens. */
export function butterflyLayout({sequence, causal, layoutBlock}: AttentionProblem): BlockLayout {
  const key = `${sequence} ${causal} ${layoutBlock}`;
  const layout = layouts.get(key) ?? BlockLayout.butterflyAttention(sequence, {blockSize: layoutBlock, causal});
  layouts.set(key, layout);
  return layout;
}

const layouts = new Map<string, BlockLayout>();

export function forwardCall(attend: Attend, {q, k, v}: Inputs): AttentionCall {
  return () => ({output: tf.tidy(() => attend(q, k, v))});
}

/**
 * Gradients of Σ output·weights with respect to q, k and v. The weights are handed over as the output's gradient: in the
 * gradient of `tf.sum`, tfjs would make a tensor on the host and upload it, which takes longer than attention.
 */
export function gradientCall(attend: Attend, {q, k, v}: Inputs, weights: tf.Tensor4D): AttentionCall {
  const gradients = tf.grads((...qkv: tf.Tensor[]) => {
    const [queries, keys, values] = qkv as tf.Tensor4D[];
    return attend(queries, keys, values);
  });
  return () => {
    const [dq, dk, dv] = gradients([q, k, v], weights) as tf.Tensor4D[];
    return {dq, dk, dv};
  };
}

/** The formula as one writes it with tfjs alone: the score matrix exists, once per step. */
function unfused(scale: number, mask: tf.Tensor2D | undefined): Attend {
  return (q, k, v) => {
    const scores = tf.mul(tf.matMul(q, k, false, true), scale);
    return tf.matMul(tf.softmax(mask ? tf.add(scores, mask) : scores), v);
  };
}

function causalMask(sequence: number): tf.Tensor2D {
  const values = new Float32Array(sequence * sequence);
  for (let i = 0; i < sequence; i++) values.fill(hidden, i * sequence + i + 1, (i + 1) * sequence);
  return tf.tensor2d(values, [sequence, sequence]);
}
