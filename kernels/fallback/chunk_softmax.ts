/** Scores and softmax of one chunk of queries, and the gradient that arrives at the scores, in tfjs's own ops. */
import {
  abs,
  add,
  cast,
  div,
  exp,
  fill,
  greaterEqual,
  less,
  lessEqual,
  log,
  logicalNot,
  max,
  mul,
  notEqual,
  onesLike,
  square,
  squeeze,
  sub,
  sum,
  type Tensor3D,
  type Tensor4D,
  tanh,
  tensor4d,
  where,
} from '@tensorflow/tfjs-core';
import {HIDDEN_BELOW, LOWEST_FLOAT32} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {dropoutThreshold} from '../attention_sizes.js';
import {dropoutBits} from '../cpu/dropout.js';
import {type AttentionProblem, groupHeads, matMulEach, rowsOf, ungroupHeads} from './attention_problem.js';
import type {QueryChunk} from './query_chunks.js';

/** Shapes are [B, H, rows, Sk] unless said otherwise. */
export interface ChunkSoftmax {
  /** exp(score − lse), 0 where hidden, before dropout. */
  probabilities: Tensor4D;
  /** Factor that dropout puts on each probability: 0 or 1/(1 − rate). Absent without dropout. */
  keep?: Tensor4D;
  /** d score / d (scale·q·k) = 1 − tanh². Absent without softcap. */
  softcapSlope?: Tensor4D;
  /** [B, H, rows] */
  lse: Tensor3D;
}

export function chunkSoftmax(problem: AttentionProblem, chunk: QueryChunk): ChunkSoftmax {
  const {scores, softcapSlope} = chunkScores(problem, chunk);
  const visible = visibleScores(problem, chunk, scores);
  // `fill`, because `where` would tile a scalar, and tfjs's wasm backend takes longer for that than for all the rest.
  const shown = where(cast(visible, 'bool'), scores, fill(scores.shape, LOWEST_FLOAT32));
  const rowMax = max(shown, 3, true);
  // In a row without visible keys all scores equal the maximum, so the factor is what makes them 0.
  const weights = mul(exp(sub(shown, rowMax)), visible);
  const rowSum = sum(weights, 3, true);
  const seesKey = notEqual(rowSum, 0);
  const divisor = where(seesKey, rowSum, onesLike(rowSum));
  const lse = where(seesKey, add(rowMax, log(divisor)), LOWEST_FLOAT32);
  return {
    probabilities: div(weights, divisor),
    keep: problem.attrs.dropoutRate > 0 ? keepFactors(problem, chunk) : undefined,
    softcapSlope,
    lse: squeeze(lse, [3]),
  };
}

/** `values` times the dropout factors, where there is dropout. */
export function applyDropout(values: Tensor4D, {keep}: ChunkSoftmax): Tensor4D {
  return keep ? mul(values, keep) : values;
}

/**
 * Gradient of the scores as the softmax gets them, from that of the probabilities after dropout and that of lse,
 * [B, H, rows, 1].
 */
export function scoreGradient(softmax: ChunkSoftmax, dDropped: Tensor4D, dLse?: Tensor4D): Tensor4D {
  const {probabilities} = softmax;
  const dProbabilities = applyDropout(dDropped, softmax);
  const rowMean = sum(mul(probabilities, dProbabilities), 3, true);
  const delta = dLse ? sub(rowMean, dLse) : rowMean;
  return mul(probabilities, sub(dProbabilities, delta));
}

/** j − (i + Sk − Sq), with the sample's own lengths: [1|B, 1, rows, Sk]. */
export function offsetsFromDiagonal(problem: AttentionProblem, {begin, rows}: QueryChunk): Tensor4D {
  const {queries, keys} = problem.sizes;
  const offsets = sub<Tensor4D>(keyIndices(keys), queryIndices({begin, rows}));
  const shift = sub<Tensor4D>(problem.keyLengths ?? keys, problem.queryLengths ?? queries);
  return sub(offsets, shift);
}

function chunkScores(problem: AttentionProblem, chunk: QueryChunk): {scores: Tensor4D; softcapSlope?: Tensor4D} {
  const {sizes, attrs, scaledQ, kTransposed, bias, alibiSlopes} = problem;
  const q = groupHeads(rowsOf(scaledQ, chunk), sizes);
  let scores = ungroupHeads(matMulEach(q, kTransposed), sizes);
  let softcapSlope: Tensor4D | undefined;
  if (attrs.softcap > 0) {
    const capped = tanh(div<Tensor4D>(scores, attrs.softcap));
    softcapSlope = sub<Tensor4D>(1, square(capped));
    scores = mul(capped, attrs.softcap);
  }
  if (alibiSlopes) scores = sub(scores, mul(alibiSlopes, abs(offsetsFromDiagonal(problem, chunk))));
  if (bias) scores = add(scores, rowsOf(bias, chunk));
  return {scores, softcapSlope};
}

/**
 * 1 where a score counts, else 0: [B, H, rows, Sk]. NaN counts, so that it reaches the output. Factors rather than
 * `logicalAnd`, which tfjs's wasm backend broadcasts thirty times slower than a product.
 */
function visibleScores(problem: AttentionProblem, chunk: QueryChunk, scores: Tensor4D): Tensor4D {
  const {sizes, attrs, mask, queryLengths, keyLengths} = problem;
  const conditions: Tensor4D[] = [];
  if (attrs.left >= 0 || attrs.right >= 0) {
    const offsets = offsetsFromDiagonal(problem, chunk);
    if (attrs.left >= 0) conditions.push(greaterEqual(offsets, -attrs.left));
    if (attrs.right >= 0) conditions.push(lessEqual(offsets, attrs.right));
  }
  if (keyLengths) conditions.push(less(keyIndices(sizes.keys), keyLengths));
  if (queryLengths) conditions.push(less(queryIndices(chunk), queryLengths));
  if (mask) conditions.push(rowsOf(mask, chunk));
  if (attrs.layout) conditions.push(liveKeys(attrs.layout, chunk, sizes.keys));
  const factors = [...conditions, logicalNot(less<Tensor4D>(scores, HIDDEN_BELOW))].map((bool) =>
    cast(bool, 'float32'),
  );
  return factors.reduce((all, one) => mul(all, one));
}

/** 1 where the layout lets a query see a key, else 0: [1, 1|H, rows, Sk]. */
function liveKeys(layout: BlockLayout, {begin, rows}: QueryChunk, keys: number): Tensor4D {
  const {heads, blockSize} = layout;
  const live = new Float32Array(heads * rows * keys);
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rows; row++) {
      const columns = layout.liveColumns(head, Math.floor((begin + row) / blockSize[0]));
      for (let key = 0; key < keys; key++) {
        live[(head * rows + row) * keys + key] = columns[Math.floor(key / blockSize[1])];
      }
    }
  }
  return tensor4d(live, [1, heads, rows, keys]);
}

/** [1, 1, 1, Sk]; float32, exact up to 2²⁴, because that is what every backend computes with. */
function keyIndices(keys: number): Tensor4D {
  return tensor4d(
    Float32Array.from({length: keys}, (_, key) => key),
    [1, 1, 1, keys],
  );
}

/** [1, 1, rows, 1] */
function queryIndices({begin, rows}: QueryChunk): Tensor4D {
  return tensor4d(
    Float32Array.from({length: rows}, (_, row) => begin + row),
    [1, 1, rows, 1],
  );
}

/** Made on the host: tfjs has no integer arithmetic that wraps around, which the generator needs. */
function keepFactors({sizes, attrs}: AttentionProblem, {begin, rows}: QueryChunk): Tensor4D {
  const {batch, heads, keys} = sizes;
  const threshold = dropoutThreshold(attrs.dropoutRate);
  const factors = new Float32Array(batch * heads * rows * keys).fill(1 / (1 - attrs.dropoutRate));
  for (let batchHead = 0; batchHead < batch * heads; batchHead++) {
    for (let row = 0; row < rows; row++) {
      const first = (batchHead * rows + row) * keys;
      for (let key = 0; key < keys; key += 4) {
        const bits = dropoutBits(attrs.dropoutSeed, batchHead, begin + row, key / 4);
        for (let lane = 0; lane < 4 && key + lane < keys; lane++) {
          if (bits[lane] < threshold) factors[first + key + lane] = 0;
        }
      }
    }
  }
  return tensor4d(factors, [batch, heads, rows, keys]);
}
