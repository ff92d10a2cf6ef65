/** The page of the benchmark: measures one case, and refuses to give a figure that cannot be trusted. */
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import type {BenchCase} from '../cases.js';
import type {BenchPage, Measurement, Outcome} from '../measurement.js';
import {checkForward, checkGradients, checkKeyGradients, sparseWeights} from './answer_check.js';
import {describeAdapter, type OpenBackend, openBackend} from './backend.js';
import {attentionOf, type Call, forwardCall, gradientCall} from './contenders.js';
import {randomInputs, upload, uploadInputs} from './inputs.js';
import {finished, timeCall} from './timing.js';

async function measure(benchCase: BenchCase): Promise<Outcome> {
  let backend: OpenBackend | undefined;
  try {
    backend = await openBackend(benchCase.backend, benchCase.stockDevice);
    return {ok: true, measurement: await measureOn(backend, benchCase)};
  } catch (error) {
    // What the device reported comes first: an exception or a wrong answer is often only its consequence.
    return {ok: false, reason: backend?.faults.reason() ?? messageOf(error)};
  }
}

async function measureOn(backend: OpenBackend, benchCase: BenchCase): Promise<Measurement> {
  const {faults, bytes} = backend;
  const values = randomInputs(benchCase);
  const inputs = uploadInputs(backend, benchCase, values);
  await finished(inputs);
  bytes.startCount();

  const attend = attentionOf(benchCase);
  const forward = benchCase.pass === 'forward';
  const call = forward ? forwardCall(attend, inputs) : gradientCall(attend, inputs, inputs.weights);
  await runOnce(call);
  const memory = {peakBytes: bytes.peakBytes(), backendBytes: bytes.backendBytes()};
  await faults.check();

  let errors: Record<string, number>;
  if (forward) {
    errors = await checkForward(benchCase, values, call);
  } else {
    errors = await checkGradients(benchCase, values, call);
    const sparse = upload(backend, benchCase, sparseWeights(benchCase, values.weights));
    const keyCall = gradientCall(attend, inputs, sparse);
    Object.assign(errors, await checkKeyGradients(benchCase, values, keyCall));
    sparse.dispose();
  }

  const timing = benchCase.timed ? await timeCall(call) : {};
  await faults.check();
  return {...timing, ...memory, errors};
}

async function runOnce(call: Call): Promise<void> {
  const results = call();
  await finished(results);
  tf.dispose(results);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const page: BenchPage = {describe: describeAdapter, measure};
Object.assign(globalThis, {bench: page});
