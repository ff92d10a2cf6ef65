/** Where a call's time on the GPU goes: each dispatch in a pass of its own, timed by the GPU's own clock. WebGPU only. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import type {ProfileEntry} from '../measurement.js';
import type {Call} from './subject.js';
import {finished} from './timing.js';

/** Two per pass; a query set has room for 4096. */
const QUERIES_PER_SET = 4096;
const BYTES_PER_QUERY = 8;

interface TimedPass {
  label: string;
  querySet: GPUQuerySet;
  /** Of the beginning; the end comes next. */
  query: number;
}

/**
 * Runs a call once and adds up its passes by the label of their pipeline. A pass by itself takes a little longer than a
 * dispatch among others, so the sum is above the time of a call.
 *
 * @param call must have run before, so that nothing is compiled.
 */
export async function profileCall(call: Call): Promise<ProfileEntry[]> {
  const {device} = tf.backend() as WebGPUBackend;
  if (!device.features.has('timestamp-query')) throw new Error('profile: the device has no timestamp-query');
  const passes: TimedPass[] = [];
  const restore = timePasses(device, passes);
  const flag = 'WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE';
  const batchSize = tf.env().getNumber(flag);
  tf.env().set(flag, 1);
  try {
    const results = call();
    await finished(results);
    tf.dispose(results);
  } finally {
    tf.env().set(flag, batchSize);
    restore();
  }
  return summed(passes, await millisecondsOf(device, passes));
}

/** @returns what undoes it */
function timePasses(device: GPUDevice, passes: TimedPass[]): () => void {
  const {beginComputePass} = GPUCommandEncoder.prototype;
  const {setPipeline} = GPUComputePassEncoder.prototype;
  let querySet: GPUQuerySet;
  GPUCommandEncoder.prototype.beginComputePass = function () {
    const query = (2 * passes.length) % QUERIES_PER_SET;
    if (query === 0) querySet = device.createQuerySet({type: 'timestamp', count: QUERIES_PER_SET});
    passes.push({label: '', querySet, query});
    const timestampWrites = {querySet, beginningOfPassWriteIndex: query, endOfPassWriteIndex: query + 1};
    return beginComputePass.call(this, {timestampWrites});
  };
  GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
    passes[passes.length - 1].label = pipeline.label;
    setPipeline.call(this, pipeline);
  };
  return () => {
    GPUCommandEncoder.prototype.beginComputePass = beginComputePass;
    GPUComputePassEncoder.prototype.setPipeline = setPipeline;
  };
}

async function millisecondsOf(device: GPUDevice, passes: TimedPass[]): Promise<number[]> {
  const times = new Map<GPUQuerySet, BigUint64Array>();
  for (const querySet of new Set(passes.map((pass) => pass.querySet))) {
    times.set(querySet, await readQueries(device, querySet));
  }
  return passes.map(({querySet, query}) => {
    const ofSet = times.get(querySet) as BigUint64Array;
    return Number(ofSet[query + 1] - ofSet[query]) / 1e6;
  });
}

async function readQueries(device: GPUDevice, querySet: GPUQuerySet): Promise<BigUint64Array> {
  const size = QUERIES_PER_SET * BYTES_PER_QUERY;
  const resolved = device.createBuffer({size, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC});
  const mapped = device.createBuffer({size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ});
  const encoder = device.createCommandEncoder();
  encoder.resolveQuerySet(querySet, 0, QUERIES_PER_SET, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, mapped, 0, size);
  device.queue.submit([encoder.finish()]);
  await mapped.mapAsync(GPUMapMode.READ);
  const values = new BigUint64Array(mapped.getMappedRange().slice(0));
  for (const used of [resolved, mapped, querySet]) used.destroy();
  return values;
}

/** The most expensive first. */
function summed(passes: TimedPass[], milliseconds: number[]): ProfileEntry[] {
  const entries = new Map<string, ProfileEntry>();
  passes.forEach(({label}, i) => {
    const entry = entries.get(label) ?? {label, dispatches: 0, milliseconds: 0};
    entry.dispatches++;
    entry.milliseconds += milliseconds[i];
    entries.set(label, entry);
  });
  return [...entries.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}
