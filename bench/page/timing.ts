/** Times a call: many calls per wait, so that what is measured is the GPU's work and not the way back from it. */
import * as tf from '@tensorflow/tfjs-core';
import type {Call, Results} from './subject.js';

export interface Timing {
  milliseconds: number;
  calls: number;
  batches: number[];
}

/** Makes so many calls, and waits for the GPU once. */
export type RunCalls = (calls: number) => Promise<void>;

const batchMilliseconds = 400;
const maxCalls = 20000;
const batchCount = 5;
/** A call longer than this is timed in fewer batches. */
const slowMilliseconds = 4000;

/** Times a call of tfjs. It must have run before. */
export function timeCall(call: Call): Promise<Timing> {
  return timeCalls(async (calls) => {
    for (let i = 1; i < calls; i++) tf.dispose(call());
    const results = call();
    await finished(results);
    tf.dispose(results);
  });
}

/**
 * One call must have run before, so that its programs are compiled and its memory is pooled. The search for the number of
 * calls also brings JavaScript and the GPU's clock up to speed.
 */
export async function timeCalls(run: RunCalls): Promise<Timing> {
  let calls = 1;
  let elapsed = await timeBatch(run, calls);
  const count = elapsed > slowMilliseconds ? 3 : batchCount;
  while (elapsed < batchMilliseconds && calls < maxCalls) {
    // The first calls are slower than those to come, so the number is corrected until a batch really is long enough.
    calls = Math.min(maxCalls, 10 * calls, Math.ceil((1.1 * calls * batchMilliseconds) / elapsed));
    elapsed = await timeBatch(run, calls);
  }
  const batches: number[] = [];
  while (batches.length < count) batches.push((await timeBatch(run, calls)) / calls);
  return {milliseconds: median(batches), calls, batches};
}

async function timeBatch(run: RunCalls, calls: number): Promise<number> {
  const start = performance.now();
  await run(calls);
  return performance.now() - start;
}

/** Waits until the GPU has computed the results, by reading one number of each. */
export async function finished(results: Results): Promise<void> {
  for (const result of Object.values(results)) {
    const begin = Array(result.rank).fill(0);
    // A scalar cannot be sliced.
    const one = result.rank === 0 ? result.clone() : tf.slice(result, begin, Array(result.rank).fill(1));
    await one.data();
    one.dispose();
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
