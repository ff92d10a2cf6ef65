/** Starts the backend that the person chose, and tells when its GPU fails. */
import '@tensorflow/tfjs-backend-webgpu';
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '../src/tf.js';

export const backendLabels = {webgpu: 'WebGPU', webgl: 'WebGL', cpu: 'CPU'} as const;
export type BackendName = keyof typeof backendLabels;

/** Told, in a plain sentence, of a failure that makes further training pointless. */
export type FailureListener = (sentence: string) => void;

/** Who is told now; one device serves many trainings. */
let listener: FailureListener = () => {};
const watched = new WeakSet<GPUDevice>();

/** Makes the backend the active one, or where it cannot run here the next best; resolves to the one that runs. */
export async function startBackend(preferred: BackendName, onFailure: FailureListener): Promise<BackendName> {
  listener = onFailure;
  // Without it tfjs refuses a WebGL that is drawn in software; slow, but it works.
  tf.env().set('SOFTWARE_WEBGL_ENABLED', true);
  const name = await tf.registerFlashBackend({
    preferred,
    onDeviceLost: ({message}) =>
      listener(`The GPU was lost${message ? ` (${message})` : ''}. Start again, or choose another device.`),
  });
  if (name === 'webgpu') watchErrors((tf.backend() as WebGPUBackend).device);
  return name;
}

/** Memory of all tensors in bytes: GPU memory, or main memory on the CPU. */
export function usedBytes(): number {
  // Before a backend has started there are no tensors, and tfjs does not let itself be asked.
  if (!tf.engine().backendName) return 0;
  const memory = tf.memory();
  return 'numBytesInGPU' in memory ? Number(memory.numBytesInGPU) : memory.numBytes;
}

/** WebGPU does not throw on errors; after one, the numbers that come back mean nothing. */
function watchErrors(device: GPUDevice): void {
  if (watched.has(device)) return;
  watched.add(device);
  device.addEventListener('uncapturederror', ({error}) => listener(`The GPU reported an error: ${error.message}`));
}
