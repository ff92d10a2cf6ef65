/**
 * Compares the results of a call with the float64 oracle, on some heads and some query rows, so that a long sequence stays
 * cheap. No time counts whose answer has not passed here.
 */
import {type AttentionProblem, attentionBackward, attentionForward} from '../../kernels/cpu/attention_rows.js';
import type {AttentionProblem as Problem} from '../cases.js';
import {butterflyLayout} from './contenders.js';
import {ErrorMeter} from './error_meter.js';
import type {InputValues} from './inputs.js';

type Matrix = Float32Array;
/** k and v of one head, [S, D], and its q and weights, [Sq, D]. */
type Head = Record<keyof InputValues, Matrix>;
/** `output`, or `dq`, `dk` and `dv`: reads one head [S, D] of it, by its place b·H + h. */
export type Answers = Record<string, (place: number) => Promise<Matrix>>;

/** Relative error of every result. Throws where one is too large. */
export async function checkForward(
  problem: Problem,
  values: InputValues,
  {output}: Answers,
): Promise<Record<string, number>> {
  const error = new ErrorMeter(problem.precision);
  await forEachHead(problem, values, async (head, place) => {
    const actual = await output(place);
    for (const row of sampledRows(problem.queries ?? problem.sequence)) {
      const expected = attentionForward(rowProblem(problem, head, row)).output;
      error.compare(rowOf(actual, row, problem.depth), expected);
    }
  });
  return {output: error.within('output')};
}

/**
 * Checks dq row by row, and that every column of dv sums to the sum of the weights: the rows of the softmax sum to one,
 * so that identity sees all of dv.
 */
export async function checkGradients(
  problem: Problem,
  values: InputValues,
  answers: Answers,
): Promise<Record<string, number>> {
  const dqError = new ErrorMeter(problem.precision);
  const sumError = new ErrorMeter(problem.precision);
  await forEachHead(problem, values, async (head, place) => {
    const dq = await answers.dq(place);
    for (const row of sampledRows(problem.sequence)) {
      const weights = rowOf(head.weights, row, problem.depth);
      dqError.compare(rowOf(dq, row, problem.depth), attentionBackward(rowProblem(problem, head, row), weights).dq);
    }
    const dv = await answers.dv(place);
    sumError.compare(columnSums(dv, problem.depth), columnSums(head.weights, problem.depth));
  });
  return {dq: dqError.within('dq'), dvSums: sumError.within('dv (sum of its rows)')};
}

/**
 * Checks dk and dv at every key. Each is a sum over all query rows, too many for the oracle; the results must
 * therefore come from `sparseWeights`, with which only the sampled rows contribute.
 */
export async function checkKeyGradients(
  problem: Problem,
  values: InputValues,
  answers: Answers,
): Promise<Record<string, number>> {
  const errors = {dk: new ErrorMeter(problem.precision), dv: new ErrorMeter(problem.precision)};
  await forEachHead(problem, values, async (head, place) => {
    const expected = keyGradients(problem, head);
    for (const name of ['dk', 'dv'] as const) {
      errors[name].compare(await answers[name](place), expected[name]);
    }
  });
  return {dk: errors.dk.within('dk'), dv: errors.dv.within('dv')};
}

/** The weights of the sampled rows, and 0 in all others. */
export function sparseWeights({batch, heads, sequence, depth}: Problem, weights: Float32Array): Float32Array {
  const sparse = new Float32Array(weights.length);
  for (let head = 0; head < batch * heads; head++) {
    for (const row of sampledRows(sequence)) {
      const start = (head * sequence + row) * depth;
      sparse.set(weights.subarray(start, start + depth), start);
    }
  }
  return sparse;
}

function keyGradients(problem: Problem, head: Head): {dk: Float64Array; dv: Float64Array} {
  const {sequence, depth} = problem;
  const sums = {dk: new Float64Array(sequence * depth), dv: new Float64Array(sequence * depth)};
  for (const row of sampledRows(sequence)) {
    const ofRow = attentionBackward(rowProblem(problem, head, row), rowOf(head.weights, row, depth));
    visibleKeys(problem, row).forEach((key, i) => {
      for (const name of ['dk', 'dv'] as const) {
        for (let d = 0; d < depth; d++) sums[name][key * depth + d] += ofRow[name][i * depth + d];
      }
    });
  }
  return sums;
}

/** The attention of one query row alone, over the keys that it sees. */
function rowProblem(problem: Problem, head: Head, row: number): AttentionProblem {
  const {depth} = problem;
  const keys = visibleKeys(problem, row);
  return {
    sizes: {batch: 1, heads: 1, keyHeads: 1, queries: 1, keys: keys.length, depth, valueDepth: depth},
    attrs: {
      scale: 1 / Math.sqrt(depth),
      softcap: 0,
      left: -1,
      right: -1,
      dropoutRate: 0,
      dropoutSeed: 0,
      order: 'BHSD',
      precision: 'highest',
      layout: null,
      lseHasGradient: false,
      taped: false,
      mostKeys: keys.length,
      inputNames: ['q', 'k', 'v'],
    },
    q: rowOf(head.q, row, depth),
    k: rowsOf(head.k, keys, depth),
    v: rowsOf(head.v, keys, depth),
  };
}

function visibleKeys(problem: Problem, row: number): number[] {
  const {causal, sequence, layoutBlock, queries = sequence} = problem;
  const keys = Array.from({length: causal ? row + 1 + sequence - queries : sequence}, (_, key) => key);
  if (!layoutBlock) return keys;
  const live = butterflyLayout(problem).liveColumns(0, Math.floor(row / layoutBlock));
  return keys.filter((key) => live[Math.floor(key / layoutBlock)] === 1);
}

function rowsOf(matrix: Matrix, rows: number[], depth: number): Matrix {
  const gathered = new Float32Array(rows.length * depth);
  rows.forEach((row, i) => {
    gathered.set(rowOf(matrix, row, depth), i * depth);
  });
  return gathered;
}

/** The first, a middle and the last of all heads of the batch, by their place b·H + h. */
async function forEachHead(
  {batch, heads}: Problem,
  values: InputValues,
  visit: (head: Head, place: number) => Promise<void>,
): Promise<void> {
  const last = batch * heads - 1;
  for (const place of new Set([0, last >> 1, last])) {
    const ofHead = (all: Float32Array) => {
      const size = all.length / (batch * heads);
      return all.subarray(place * size, (place + 1) * size);
    };
    const {q, k, v, weights} = values;
    await visit({q: ofHead(q), k: ofHead(k), v: ofHead(v), weights: ofHead(weights)}, place);
  }
}

/** Rows at the edges of the sequence and of tiles, and some between, all below `sequence`. */
function sampledRows(sequence: number): number[] {
  const quarter = sequence >> 2;
  const rows = [0, 1, 31, 32, 63, 64, 127, quarter + 5, 2 * quarter - 1, 2 * quarter, 3 * quarter + 17];
  return [...new Set([...rows, sequence - 2, sequence - 1])].filter((row) => row >= 0 && row < sequence);
}

function rowOf(matrix: Matrix, row: number, depth: number): Matrix {
  return matrix.subarray(row * depth, (row + 1) * depth);
}

function columnSums(matrix: Matrix, depth: number): Float64Array {
  const sums = new Float64Array(depth);
  matrix.forEach((value, i) => {
    sums[i % depth] += value;
  });
  return sums;
}
