/** Times a call: many calls per wait, so that what is measured is the GPU's work and not the way back from it. */
import * as tf from '@tensorflow/tfjs-core';
import type {Call, Results} from './subject.js';

export interface Timing {
  milliseconds: number;
  calls: number;
  batches: number[];
}

const batchMilliseconds = 400;
const maxCalls = 200;
const batchCount = 5;
/** A call longer than this is timed in fewer batches. */
const slowMilliseconds = 4000;

/** The call must have run before, so that its programs are compiled and its memory is pooled. */
export async function timeCall(call: Call): Promise<Timing> {
  const once = await timeBatch(call, 1);
  const calls = Math.min(maxCalls, Math.max(1, Math.ceil(batchMilliseconds / once)));
  const batches: number[] = [];
  const count = once > slowMilliseconds ? 3 : batchCount;
  while (batches.length < count) batches.push((await timeBatch(call, calls)) / calls);
  return {milliseconds: median(batches), calls, batches};
}

async function timeBatch(call: Call, calls: number): Promise<number> {
  const start = performance.now();
  for (let i = 1; i < calls; i++) tf.dispose(call());
  const results = call();
  await finished(results);
  const elapsed = performance.now() - start;
  tf.dispose(results);
  return elapsed;
}

/** Waits until the GPU has computed the results, by reading one number of each. */
export async function finished(results: Results): Promise<void> {
  for (const result of Object.values(results)) {
    const one = tf.slice(result, Array(result.rank).fill(0), Array(result.rank).fill(1));
    await one.data();
    one.dispose();
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
