/** The page of the benchmark: measures one case, and refuses to give a figure that cannot be trusted. */
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import {type TiledKernel, tileTable} from '../../kernels/webgpu/tile_sizes.js';
import type {BenchCase} from '../cases.js';
import type {BenchPage, Measurement, Outcome} from '../measurement.js';
import {checkForward, checkGradients, checkKeyGradients, sparseWeights} from './answer_check.js';
import {describeAdapter, type OpenBackend, openBackend} from './backend.js';
import {type Attend, attentionOf, forwardCall, gradientCall} from './contenders.js';
import {type Inputs, type InputValues, randomInputs, upload, uploadInputs} from './inputs.js';
import {finished, timeCall} from './timing.js';

async function measure(benchCase: BenchCase): Promise<Outcome> {
  let backend: OpenBackend | undefined;
  try {
    backend = await openBackend(benchCase.backend, benchCase.stockDevice);
    takeTiles(benchCase);
    return {ok: true, measurement: await measureOn(backend, benchCase)};
  } catch (error) {
    // What the device reported comes first: an exception or a wrong answer is often only its consequence.
    return {ok: false, reason: backend?.faults.reason() ?? messageOf(error)};
  }
}

/** Each page measures one case, so what is changed here is never restored. */
function takeTiles({tiles = {}}: BenchCase): void {
  for (const [kernel, tile] of Object.entries(tiles)) {
    for (const table of Object.values(tileTable)) table[kernel as TiledKernel] = [tile];
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
  const results = call();
  await finished(results);
  const memory = {peakBytes: bytes.peakBytes(), backendBytes: bytes.backendBytes()};
  await faults.check();

  const errors = forward
    ? await checkForward(benchCase, values, results)
    : {
        ...(await checkGradients(benchCase, values, results)),
        ...(await keyGradientErrors(backend, benchCase, values, inputs, attend)),
      };
  tf.dispose(results);

  const timing = benchCase.timed ? await timeCall(call) : {};
  await faults.check();
  return {...timing, ...memory, errors};
}

async function keyGradientErrors(
  backend: OpenBackend,
  benchCase: BenchCase,
  values: InputValues,
  inputs: Inputs,
  attend: Attend,
): Promise<Record<string, number>> {
  const weights = upload(backend, benchCase, sparseWeights(benchCase, values.weights));
  const results = gradientCall(attend, inputs, weights)();
  const errors = await checkKeyGradients(benchCase, values, results);
  tf.dispose([weights, results]);
  return errors;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const page: BenchPage = {describe: describeAdapter, measure};
Object.assign(globalThis, {bench: page});
