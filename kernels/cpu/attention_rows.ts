/**
 * Attention by plain loops, one query row at a time, in float64. The CPU backend's kernels and the oracle of every
 * test: nothing here is tiled, fused or approximated.
 */
import {type FlashAttentionAttrs, HIDDEN_BELOW, LOWEST_FLOAT32} from '../../src/kernel_names.js';
import {type AttentionSizes, dropoutThreshold, type RowStrides, rowStrides} from '../attention_sizes.js';
import {dropoutBits} from './dropout.js';

type Numbers = ArrayLike<number>;

/** A tensor broadcast to (batch, head, query, key), with stride 0 along broadcast axes. */
export interface Broadcast {
  values: Numbers;
  strides: readonly [number, number, number, number];
}

/** One attention call on host memory. */
export interface AttentionProblem {
  sizes: AttentionSizes;
  attrs: FlashAttentionAttrs;
  q: Numbers;
  k: Numbers;
  v: Numbers;
  bias?: Broadcast;
  mask?: Broadcast;
  /** Slope of (batch, head) at batch·slopeBatchStride + head. */
  alibiSlopes?: {values: Numbers; batchStride: number};
  queryLengths?: Numbers;
  keyLengths?: Numbers;
}

export interface AttentionOutputs {
  output: Float64Array;
  lse: Float64Array;
}

export interface AttentionGradients {
  dq: Float64Array;
  dk: Float64Array;
  dv: Float64Array;
  /** Present where the problem has a bias; shaped as it is stored. */
  dBias?: Float64Array;
  /** Present where the problem has slopes; shaped as they are stored. */
  dSlopes?: Float64Array;
}

/** The softmax of one query row. Keys outside [begin, end) are invisible; arrays are indexed by key. */
interface Row {
  batch: number;
  head: number;
  query: number;
  begin: number;
  end: number;
  /** Distance from the diagonal is |diagonal − key|. */
  diagonal: number;
  /** exp(score − lse), 0 where hidden, before dropout. */
  probabilities: Float64Array;
  /** Of each column of blocks, whether the layout lets the row see it; absent without a layout. */
  liveColumns?: Uint8Array;
  /** Factor that dropout puts on each probability: 0 or 1/(1 − rate). */
  keep: Float64Array;
  /** d score / d (scale·q·k): 1, or 1 − tanh² under softcap. */
  softcapSlope: Float64Array;
  lse: number;
}

export function attentionForward(problem: AttentionProblem): AttentionOutputs {
  const {sizes} = problem;
  const {batch, heads, queries, valueDepth} = sizes;
  const output = new Float64Array(batch * heads * queries * valueDepth);
  const lse = new Float64Array(batch * heads * queries).fill(LOWEST_FLOAT32);
  const at = offsets(problem);
  forEachRow(problem, (row) => {
    lse[(row.batch * heads + row.head) * queries + row.query] = row.lse;
    const o = at.output(row);
    for (let key = row.begin; key < row.end; key++) {
      const p = row.probabilities[key] * row.keep[key];
      if (p === 0) continue;
      const v = at.v(row, key);
      for (let d = 0; d < valueDepth; d++) output[o + d] += p * problem.v[v + d];
    }
  });
  return {output, lse};
}

/** Gradients of Σ output·dOutput + Σ lse·dLse. */
export function attentionBackward(problem: AttentionProblem, dOutput: Numbers, dLse?: Numbers): AttentionGradients {
  const {sizes, attrs, q, k, v, bias, alibiSlopes} = problem;
  const {heads, queries, keys, depth, valueDepth} = sizes;
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  const dBias = bias && new Float64Array(bias.values.length);
  const dSlopes = alibiSlopes && new Float64Array(alibiSlopes.values.length);
  const at = offsets(problem);
  const dp = new Float64Array(keys);
  forEachRow(problem, (row) => {
    const o = at.output(row);
    let delta = dLse ? -dLse[(row.batch * heads + row.head) * queries + row.query] : 0;
    for (let key = row.begin; key < row.end; key++) {
      const v0 = at.v(row, key);
      let sum = 0;
      for (let d = 0; d < valueDepth; d++) {
        sum += dOutput[o + d] * v[v0 + d];
        dv[v0 + d] += row.probabilities[key] * row.keep[key] * dOutput[o + d];
      }
      dp[key] = sum * row.keep[key];
      delta += row.probabilities[key] * dp[key];
    }
    const q0 = at.q(row);
    for (let key = row.begin; key < row.end; key++) {
      const dScore = row.probabilities[key] * (dp[key] - delta);
      if (bias && dBias) dBias[at.broadcast(bias, row, key)] += dScore;
      if (alibiSlopes && dSlopes) {
        dSlopes[row.batch * alibiSlopes.batchStride + row.head] -= dScore * Math.abs(row.diagonal - key);
      }
      const dDot = dScore * row.softcapSlope[key] * attrs.scale;
      const k0 = at.k(row, key);
      for (let d = 0; d < depth; d++) {
        dq[q0 + d] += dDot * k[k0 + d];
        dk[k0 + d] += dDot * q[q0 + d];
      }
    }
  });
  return {dq, dk, dv, dBias, dSlopes};
}

type RowPlace = Pick<Row, 'batch' | 'head' | 'query'>;

/** Where the rows and elements of each tensor begin in memory. */
function offsets({sizes, attrs}: AttentionProblem) {
  const {heads, keyHeads, queries, keys, depth, valueDepth} = sizes;
  const groupSize = heads / keyHeads;
  const queryStrides = rowStrides(attrs.order, heads, queries, depth);
  const outputStrides = rowStrides(attrs.order, heads, queries, valueDepth);
  const keyStrides = rowStrides(attrs.order, keyHeads, keys, depth);
  const valueStrides = rowStrides(attrs.order, keyHeads, keys, valueDepth);
  const ofQuery = (s: RowStrides) => (row: RowPlace) => row.batch * s.batch + row.head * s.head + row.query * s.row;
  const ofKey = (s: RowStrides) => (row: RowPlace, key: number) =>
    row.batch * s.batch + Math.floor(row.head / groupSize) * s.head + key * s.row;
  return {
    q: ofQuery(queryStrides),
    output: ofQuery(outputStrides),
    k: ofKey(keyStrides),
    v: ofKey(valueStrides),
    broadcast: ({strides: [b, h, i, j]}: Broadcast, row: RowPlace, key: number) =>
      row.batch * b + row.head * h + row.query * i + key * j,
  };
}

/** Calls `visit` for every query row that sees at least one key. The row's arrays are reused by the next one. */
function forEachRow(problem: AttentionProblem, visit: (row: Row) => void): void {
  const {sizes, attrs} = problem;
  const {batch, heads, queries, keys} = sizes;
  const scratch = {
    probabilities: new Float64Array(keys),
    keep: new Float64Array(keys).fill(1),
    softcapSlope: new Float64Array(keys).fill(1),
  };
  for (let b = 0; b < batch; b++) {
    const queryLength = clampLength(problem.queryLengths?.[b], queries);
    const keyLength = clampLength(problem.keyLengths?.[b], keys);
    for (let head = 0; head < heads; head++) {
      for (let query = 0; query < queryLength; query++) {
        const diagonal = query + keyLength - queryLength;
        const begin = attrs.left < 0 ? 0 : Math.max(0, diagonal - attrs.left);
        const end = attrs.right < 0 ? keyLength : Math.min(keyLength, diagonal + attrs.right + 1);
        const liveColumns = attrs.layout?.liveColumns(head, Math.floor(query / attrs.layout.blockSize[0]));
        const row: Row = {batch: b, head, query, begin, end, diagonal, lse: 0, liveColumns, ...scratch};
        if (fillRow(problem, row)) visit(row);
      }
    }
  }
}

/** A length as the kernels read it: absent means all, and a value out of range is clamped. */
function clampLength(length: number | undefined, size: number): number {
  return Math.min(Math.max(length ?? size, 0), size);
}

/** Fills the row's softmax; false when it sees no key. */
function fillRow(problem: AttentionProblem, row: Row): boolean {
  const {sizes, attrs, q, k, bias, mask, alibiSlopes} = problem;
  const at = offsets(problem);
  const scores = row.probabilities;
  const q0 = at.q(row);
  let max = Number.NEGATIVE_INFINITY;
  let visible = false;
  const blockColumns = attrs.layout?.blockSize[1] ?? 1;
  for (let key = row.begin; key < row.end; key++) {
    if (row.liveColumns?.[Math.floor(key / blockColumns)] === 0) {
      scores[key] = Number.NEGATIVE_INFINITY;
      continue;
    }
    const k0 = at.k(row, key);
    let score = 0;
    for (let d = 0; d < sizes.depth; d++) score += q[q0 + d] * k[k0 + d];
    score *= attrs.scale;
    if (attrs.softcap > 0) {
      const t = Math.tanh(score / attrs.softcap);
      row.softcapSlope[key] = 1 - t * t;
      score = attrs.softcap * t;
    }
    if (alibiSlopes) {
      score -= alibiSlopes.values[row.batch * alibiSlopes.batchStride + row.head] * Math.abs(row.diagonal - key);
    }
    if (bias) score += bias.values[at.broadcast(bias, row, key)];
    if ((mask && !mask.values[at.broadcast(mask, row, key)]) || score < HIDDEN_BELOW) {
      score = Number.NEGATIVE_INFINITY;
    } else {
      visible = true;
    }
    scores[key] = score;
    // NaN must win: Math.max lets it through.
    max = Math.max(max, score);
  }
  if (!visible) return false;
  let sum = 0;
  for (let key = row.begin; key < row.end; key++) {
    scores[key] = Math.exp(scores[key] - max);
    sum += scores[key];
  }
  for (let key = row.begin; key < row.end; key++) scores[key] /= sum;
  row.lse = max + Math.log(sum);
  if (attrs.dropoutRate > 0) fillKeep(problem, row);
  return true;
}

function fillKeep({sizes, attrs}: AttentionProblem, row: Row): void {
  const threshold = dropoutThreshold(attrs.dropoutRate);
  const factor = 1 / (1 - attrs.dropoutRate);
  const batchHead = row.batch * sizes.heads + row.head;
  for (let quad = row.begin >> 2; quad * 4 < row.end; quad++) {
    const bits = dropoutBits(attrs.dropoutSeed, batchHead, row.query, quad);
    for (let lane = 0; lane < 4; lane++) row.keep[quad * 4 + lane] = bits[lane] < threshold ? 0 : factor;
  }
}
