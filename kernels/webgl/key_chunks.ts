/**
 * Attention on WebGL goes over the keys chunk by chunk: a chunk's scores are a texture [B·H, Sq, keys of the chunk], so
 * memory is linear in the sequence length. Short sequences are one chunk.
 */
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {largestTexture} from './texture_limits.js';

/** Keys [start, start + count). */
export interface KeyChunk {
  /** Even: quads do not straddle chunks. */
  start: number;
  count: number;
  isLast: boolean;
}

/** For programs that have nothing to do with chunks. */
export const WHOLE: KeyChunk = {start: 0, count: 0, isLast: true};

/** Scores of a chunk that are worth having at once: 16 MiB of float32. */
const SCORES_PER_CHUNK = 2 ** 22;

/** With fewer keys, passing the running output from chunk to chunk costs more than the chunk's own work. */
const MIN_KEYS = 128;

/** Replaced by tests, which want chunk boundaries at small sizes. */
export const chunkLimits = {scores: SCORES_PER_CHUNK, minKeys: MIN_KEYS};

/** The chunks with keys that some query sees, as far as the host can tell; at least one. */
export function keyChunks(inputs: FlashAttentionInputs, attrs: FlashAttentionAttrs, sizes: AttentionSizes): KeyChunk[] {
  const step = keysPerChunk(sizes);
  const [first, end] = visibleKeys(inputs, attrs, sizes);
  const chunks: KeyChunk[] = [];
  for (let start = first - (first % 2); start < end; start += step) {
    chunks.push({start, count: Math.min(step, end - start), isLast: start + step >= end});
  }
  return chunks.length > 0 ? chunks : [{start: 0, count: Math.min(2, sizes.keys), isLast: true}];
}

/** Even, and such that the chunk's texture fits. */
function keysPerChunk({batch, heads, queries}: AttentionSizes): number {
  const rows = batch * heads * queries;
  const wanted = Math.max(chunkLimits.minKeys, Math.floor(chunkLimits.scores / rows));
  const mostThatFits = Math.floor(largestTexture() / (batch * heads * Math.ceil(queries / 2))) * 2;
  return Math.max(2, Math.min(wanted - (wanted % 2), mostThatFits));
}

/** With lengths, which are on the GPU, each sample has a diagonal of its own. */
function visibleKeys(
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
  {queries, keys}: AttentionSizes,
): [number, number] {
  if (inputs.queryLengths || inputs.keyLengths) return [0, keys];
  const diagonal = keys - queries;
  const first = attrs.left < 0 ? 0 : Math.max(0, diagonal - attrs.left);
  const end = attrs.right < 0 ? keys : Math.min(keys, queries + diagonal + attrs.right);
  return [first, end];
}
