/**
 * Attention by the textbook formula in tfjs's own float32 ops, every option included: the yardstick for rounding errors,
 * and, through tfjs's own gradients, a second opinion on the oracle's.
 */
import * as tf from '@tensorflow/tfjs-core';
import {dropoutThreshold} from '../kernels/attention_sizes.js';
import {dropoutBits} from '../kernels/cpu/dropout.js';
import type {AttentionCase} from './attention_cases.js';
import {type HostInputs, type HostTensor, layoutOf, toTensor} from './attention_inputs.js';
import {type AttentionResult, type DifferentiableTensors, resultOf} from './weighted_gradients.js';

const SIZES_AS_UNIFORMS = 'WEBGL_USE_SHAPES_UNIFORMS';

/** The results of {@link attention}, and their gradients, on the active backend. */
export async function unfusedAttention(attentionCase: AttentionCase, inputs: HostInputs): Promise<AttentionResult> {
  // Else tfjs compiles the programs of its WebGL ops anew for all sizes.
  const usesUniforms = tf.env().getBool(SIZES_AS_UNIFORMS);
  tf.env().set(SIZES_AS_UNIFORMS, true);
  try {
    return await resultOf(inputs, (tensors) => attention(attentionCase, inputs, tensors));
  } finally {
    tf.env().set(SIZES_AS_UNIFORMS, usesUniforms);
  }
}

function attention(attentionCase: AttentionCase, inputs: HostInputs, tensors: DifferentiableTensors) {
  const {B, H, Hk, Sq, Sk, D, order, rank3, scale = 1 / Math.sqrt(D), softcap = 0} = attentionCase;
  const toHeads = (t: tf.Tensor) => {
    const batched = rank3 ? tf.expandDims(t, 0) : t;
    return order === 'BSHD' ? tf.transpose(batched, [0, 2, 1, 3]) : batched;
  };
  const forQueryHeads = (t: tf.Tensor) => {
    const [, , rows, columns] = t.shape;
    const repeated = tf.tile(tf.reshape(t, [B * Hk, 1, rows * columns]), [1, H / Hk, 1]);
    return tf.reshape(repeated, [B, H, rows, columns]);
  };
  const q = toHeads(tensors.q);
  const k = forQueryHeads(toHeads(tensors.k));
  const v = forQueryHeads(toHeads(tensors.v));
  const {visible, distance} = geometry(attentionCase, inputs);

  let scores = tf.mul(tf.matMul(q, k, false, true), scale);
  if (softcap > 0) scores = tf.mul(tf.tanh(tf.div(scores, softcap)), softcap);
  if (tensors.alibiSlopes) {
    const slopes = tf.reshape(tensors.alibiSlopes, [tensors.alibiSlopes.rank === 1 ? 1 : B, H, 1, 1]);
    scores = tf.sub(scores, tf.mul(slopes, distance));
  }
  if (tensors.bias) scores = tf.add(scores, tensors.bias);
  const shown = tf.broadcastTo(visible, [B, H, Sq, Sk]).toBool();
  const rowSees = tf.any(shown, 3, true).toFloat();
  // Rows that see nothing get equal scores, which every backend can take the softmax of.
  scores = tf.where(shown, scores, tf.mul(tf.ones([B, H, Sq, Sk]), tf.mul(rowSees, -1e30)));
  let probabilities = tf.mul(tf.softmax(scores), rowSees);
  if (attentionCase.dropout) probabilities = tf.mul(probabilities, keepMask(attentionCase));
  const output = tf.matMul(probabilities, v);
  const lse = tf.mul(tf.logSumExp(scores, 3), tf.squeeze(rowSees, [3]));
  return {
    output: fromHeads(output, order === 'BSHD', rank3),
    lse: rank3 ? tf.squeeze(lse, [0]) : lse,
  };
}

function fromHeads(t: tf.Tensor, transposed: boolean, rank3: boolean | undefined): tf.Tensor {
  const ordered = transposed ? tf.transpose(t, [0, 2, 1, 3]) : t;
  return rank3 ? tf.squeeze(ordered, [0]) : ordered;
}

/** Which keys each query sees, [B, H, Sq, Sk] or broadcastable, and how far off the diagonal they are. */
function geometry(attentionCase: AttentionCase, inputs: HostInputs) {
  const {B, H, Sq, Sk, causal, window = [-1, -1], queryLengths, keyLengths} = attentionCase;
  const right = causal ? 0 : window[1];
  const visible = tf.buffer([B, 1, Sq, Sk], 'float32');
  const distance = tf.buffer([B, 1, Sq, Sk], 'float32');
  for (let b = 0; b < B; b++) {
    const queryLength = queryLengths?.[b] ?? Sq;
    const keyLength = keyLengths?.[b] ?? Sk;
    for (let i = 0; i < Sq; i++) {
      for (let j = 0; j < Sk; j++) {
        const ahead = j - (i + keyLength - queryLength);
        const inWindow = (window[0] < 0 || ahead >= -window[0]) && (right < 0 || ahead <= right);
        visible.set(Number(inWindow && i < queryLength && j < keyLength), b, 0, i, j);
        distance.set(Math.abs(ahead), b, 0, i, j);
      }
    }
  }
  const masks = [toTensorIf(inputs.mask), liveMask(attentionCase, H)].filter((mask) => mask !== undefined);
  return {
    visible: masks.reduce((all, mask) => tf.mul(all, mask), visible.toTensor() as tf.Tensor),
    distance: distance.toTensor(),
  };
}

function toTensorIf(values: HostTensor | undefined): tf.Tensor | undefined {
  return values && toTensor(values);
}

/** The layout as a mask of elements, [1, H, Sq, Sk]. */
function liveMask(attentionCase: AttentionCase, heads: number): tf.Tensor | undefined {
  const layout = layoutOf(attentionCase);
  if (!layout) return undefined;
  const {Sq, Sk} = attentionCase;
  const live = tf.buffer([1, heads, Sq, Sk], 'float32');
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < Sq; i++) {
      for (let j = 0; j < Sk; j++) {
        const [row, col] = [Math.floor(i / layout.blockSize[0]), Math.floor(j / layout.blockSize[1])];
        live.set(Number(layout.isLive(row, col, head)), 0, head, i, j);
      }
    }
  }
  return live.toTensor();
}

function keepMask({B, H, Sq, Sk, dropout = {rate: 0, seed: 0}}: AttentionCase): tf.Tensor {
  const keep = tf.buffer([B, H, Sq, Sk], 'float32');
  const threshold = dropoutThreshold(dropout.rate);
  for (let head = 0; head < B * H; head++) {
    for (let i = 0; i < Sq; i++) {
      for (let j = 0; j < Sk; j++) {
        const kept = dropoutBits(dropout.seed, head, i, j >> 2)[j & 3] >= threshold;
        keep.values[(head * Sq + i) * Sk + j] = kept ? 1 / (1 - dropout.rate) : 0;
      }
    }
  }
  return keep.toTensor();
}
