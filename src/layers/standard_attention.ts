/** Attention that writes the score matrix, in tfjs's own ops, with the semantics of `flashAttention` in the order BSHD. */
import {
  add,
  cast,
  dropout,
  greaterEqual,
  lessEqual,
  logicalAnd,
  matMul,
  mul,
  range,
  reshape,
  softmax,
  sub,
  type Tensor,
  type Tensor4D,
  tanh,
  transpose,
} from '@tensorflow/tfjs-core';
import type {FlashAttentionOptions} from '../ops/flash_attention.js';
import {layoutMask} from './attention_layouts.js';

/** What attention layers ask of attention; 'standard' attention has one precision only. */
export type LayerAttentionOptions = Pick<
  FlashAttentionOptions,
  'scale' | 'causal' | 'window' | 'softcap' | 'precision' | 'layout'
> & {
  mask?: Tensor;
  dropout?: {rate: number; seed?: number};
};

/**
 * Added to the scores of invisible keys: e to its power is 0, and textures of half floats can hold it, which infinity and
 * −1e9 cannot claim.
 */
const INVISIBLE = -60000;

/**
 * softmax(scale·q·kᵀ)·v over the visible keys; a query that sees none gets 0.
 *
 * @param q [B, Sq, H, D]
 * @param k [B, Sk, Hk, D]
 * @param v [B, Sk, Hk, Dv]
 * @returns [B, Sq, H, Dv]
 */
export function standardAttention(q: Tensor4D, k: Tensor4D, v: Tensor4D, options: LayerAttentionOptions): Tensor4D {
  const [B, Sq, H, D] = q.shape;
  const [, Sk, Hk, Dv] = v.shape;
  const {scale = 1 / Math.sqrt(D), softcap = 0} = options;
  const byHead = (t: Tensor4D) => transpose(t, [0, 2, 1, 3]);
  // Queries of the heads that share a key head are further rows of it, so that no key is copied.
  const rows = reshape(byHead(mul(q, scale)), [B, Hk, (H / Hk) * Sq, D]);
  let scores: Tensor = matMul(rows, byHead(k), false, true);
  if (softcap > 0) scores = mul(tanh(mul(scores, 1 / softcap)), softcap);
  scores = reshape(scores, [B, H, Sq, Sk]);

  const visible = visibleKeys(options, [Sq, Sk]);
  if (visible) scores = add(scores, mul(sub(1, visible), INVISIBLE));
  let probabilities: Tensor = softmax(scores);
  // Where no key is visible, softmax has shared out 1 among the invisible ones.
  if (visible && !everyQuerySees(options, [Sq, Sk])) probabilities = mul(probabilities, visible);
  if (options.dropout) probabilities = dropout(probabilities, options.dropout.rate, undefined, options.dropout.seed);
  const output = matMul(reshape(probabilities, [B, Hk, (H / Hk) * Sq, Sk]), byHead(v));
  return byHead(reshape(output, [B, H, Sq, Dv]));
}

/** 1 where a key is visible, else 0, float32 and broadcastable to [B, H, Sq, Sk]; absent if all are. */
function visibleKeys(options: LayerAttentionOptions, lengths: [number, number]): Tensor | undefined {
  const {causal = false, window = [-1, -1], layout, mask} = options;
  const parts: Tensor[] = [];
  if (causal || window.some((size) => size >= 0)) parts.push(band(lengths, window[0], causal ? 0 : window[1]));
  if (layout) parts.push(cast(layoutMask(layout, lengths), 'float32'));
  if (mask) parts.push(cast(mask, 'float32'));
  return parts.length === 0 ? undefined : parts.reduce((all, part) => mul(all, part));
}

/** A band alone has the key at the end of its query's row, where there is one. */
function everyQuerySees({layout, mask}: LayerAttentionOptions, [queries, keys]: [number, number]): boolean {
  return !layout && !mask && queries <= keys;
}

/** Made on the backend: on the host, and sent to a GPU, it would take longer than the attention itself. */
function band([queries, keys]: [number, number], left: number, right: number): Tensor {
  const ahead = sub(range(0, keys), reshape(range(keys - queries, keys), [queries, 1]));
  const parts: Tensor[] = [];
  if (left >= 0) parts.push(greaterEqual(ahead, -left));
  if (right >= 0) parts.push(lessEqual(ahead, right));
  return cast(
    parts.reduce((all, part) => logicalAnd(all, part)),
    'float32',
  );
}
