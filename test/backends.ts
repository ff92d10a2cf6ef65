/** Runs specs on every backend, and fails a spec whose GPU reported an error or that left something behind. */
import * as tf from '@tensorflow/tfjs-core';
import {ALL_ENVS, type Constraints, describeWithFlags, type TestEnv} from '@tensorflow/tfjs-core/dist/jasmine_util';
import {registerFlashBackend} from '../src/index.js';

/** What WebGPU reports asynchronously, and to nobody unless asked. */
const gpuFaults: string[] = [];
const watched = new WeakSet<GPUDevice>();

/** `describe` once per backend, with that backend active in each spec. */
export function describeOnBackends(
  name: string,
  specs: (environment: TestEnv) => void,
  constraints: Constraints = ALL_ENVS,
): void {
  describeWithFlags(name, constraints, (environment) => {
    beforeAll(async () => {
      if (!(await tf.setBackend(environment.backendName))) {
        throw new Error(`The backend ${environment.backendName} cannot be had in this browser.`);
      }
    });
    failOnLeaksAndFaults();
    specs(environment);
  });
}

/** Constrains a suite to WebGPU. */
export const onWebgpu: Constraints = {predicate: ({backendName}) => backendName === 'webgpu'};

/** Runs the specs of a suite on the device that registerFlashBackend makes, and those after it on tfjs's own again. */
export function useFlashBackend(): void {
  let ownFactory: ReturnType<typeof tf.findBackendFactory>;
  beforeAll(async () => {
    ownFactory = tf.findBackendFactory('webgpu');
    await registerFlashBackend();
  });
  afterAll(async () => {
    tf.removeBackend('webgpu');
    tf.registerBackend('webgpu', ownFactory, 3);
    await tf.setBackend('webgpu');
  });
}

function device(): GPUDevice | undefined {
  const backend: object = tf.backend();
  return 'device' in backend ? (backend.device as GPUDevice) : undefined;
}

function watchForFaults(): void {
  const watchedDevice = device();
  if (!watchedDevice || watched.has(watchedDevice)) return;
  watched.add(watchedDevice);
  watchedDevice.addEventListener('uncapturederror', ({error}) => gpuFaults.push(error.message));
  void watchedDevice.lost.then(({reason, message}) => {
    if (reason !== 'destroyed') gpuFaults.push(`device lost: ${message}`);
  });
}

function failOnLeaksAndFaults(): void {
  let tensors = 0;
  let dataIds = 0;
  let backendName = '';
  beforeEach(() => {
    watchForFaults();
    gpuFaults.length = 0;
    backendName = tf.getBackend();
    tensors = tf.memory().numTensors;
    dataIds = tf.engine().backend.numDataIds();
  });
  afterEach(async () => {
    await device()?.queue.onSubmittedWorkDone();
    expect(gpuFaults).withContext('errors reported by the GPU').toEqual([]);
    expect(tf.getBackend()).withContext('the backend after the spec').toBe(backendName);
    // The spec ran in a scope that tfjs opened around it: close that, count what is left, and open it again.
    tf.engine().endScope();
    expect(tf.memory().numTensors).withContext('tensors leaked').toBe(tensors);
    expect(tf.engine().backend.numDataIds()).withContext('data ids leaked').toBe(dataIds);
    tf.engine().startScope();
  });
}

/** For suites that change the backend themselves. */
export function restoreBackendAfterwards(): void {
  let previous: string | undefined;
  beforeAll(() => {
    previous = tf.getBackend();
  });
  afterAll(() => tf.setBackend(previous ?? 'cpu'));
}
