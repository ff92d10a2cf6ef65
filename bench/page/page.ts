/** The page of the benchmark: measures one case, and refuses to give a figure that cannot be trusted. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import {type BenchCase, peerNames} from '../cases.js';
import type {BenchPage, Measurement, Outcome} from '../measurement.js';
import {measurePeer, type PeerProblem, startPeer} from '../peers/peer_measurement.js';
import {takeTrial} from '../tune/take_trial.js';
import {attentionSubject} from './attention_subject.js';
import {describeAdapter, type OpenBackend, openBackend} from './backend.js';
import {gptSubject, peakOfAttention} from './gpt_subject.js';
import type {GpuFaults} from './gpu_faults.js';
import {profileCall} from './gpu_profile.js';
import {layerSubject, productSubject} from './matrix_subject.js';
import {structuredSubject} from './structured_subject.js';
import type {Subject} from './subject.js';
import {finished, timeCall} from './timing.js';
import {train} from './training.js';

async function measure(benchCase: BenchCase): Promise<Outcome> {
  let faults: GpuFaults | undefined;
  try {
    if (isOfPeer(benchCase)) {
      const started = await startPeer(benchCase);
      faults = started.faults;
      return {ok: true, measurement: await measurePeer(started, benchCase)};
    }
    const backend = await openBackend(benchCase.backend, benchCase.stockDevice);
    faults = backend.faults;
    if (benchCase.trial) takeTrial((tf.backend() as WebGPUBackend).device, benchCase.trial);
    return {ok: true, measurement: await measureOn(backend, benchCase)};
  } catch (error) {
    // What the device reported comes first: an exception or a wrong answer is often only its consequence.
    return {ok: false, reason: faults?.reason() ?? messageOf(error)};
  }
}

function isOfPeer(benchCase: BenchCase): benchCase is BenchCase & PeerProblem {
  return benchCase.kind === 'attention' && peerNames.some((name) => name === benchCase.contender);
}

async function measureOn(backend: OpenBackend, benchCase: BenchCase): Promise<Measurement> {
  const {faults, bytes} = backend;
  if (benchCase.kind === 'training') return train(backend, benchCase);
  const ofAttention =
    benchCase.kind === 'gpt' && benchCase.backend === 'webgpu'
      ? {attentionBytes: await peakOfAttention(backend, benchCase)}
      : {};
  const subject = await subjectOf(backend, benchCase);
  await finished(subject.inputs);
  bytes.startCount();

  const call = subject.prepare();
  const results = call();
  await finished(results);
  const memory = {peakBytes: bytes.peakBytes(), backendBytes: bytes.backendBytes()};
  await faults.check();

  const errors = await subject.check(results);
  tf.dispose(results);

  const timing = benchCase.timed ? await timeCall(call) : {};
  const profile = benchCase.profile ? {profile: await profileCall(call)} : {};
  await faults.check();
  return {...timing, ...memory, ...ofAttention, errors, ...profile};
}

function subjectOf(
  backend: OpenBackend,
  benchCase: Exclude<BenchCase, {kind: 'training'}>,
): Subject | Promise<Subject> {
  switch (benchCase.kind) {
    case 'attention':
      return attentionSubject(backend, benchCase);
    case 'product':
      return productSubject(backend, benchCase);
    case 'layer':
      return layerSubject(backend, benchCase);
    case 'butterfly':
    case 'monarch':
    case 'dense product':
      return structuredSubject(backend, benchCase);
    case 'gpt':
    case 'gpt mlp':
      return gptSubject(backend, benchCase);
  }
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return /out of memory|failed to allocate|allocation failed/i.test(message) ? `out of memory: ${message}` : message;
}

const page: BenchPage = {describe: describeAdapter, measure};
Object.assign(globalThis, {bench: page});
