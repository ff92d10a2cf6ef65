/**
 * Turns silent GPU failures into loud ones. A WebGPU command that fails validation throws nothing and leaves old data in
 * its output, so a figure counts only if the device has reported nothing.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';

export interface GpuFaults {
  /** Why the first fault so far makes the figures void; undefined while there is none. */
  reason(): string | undefined;
  /** Waits for the GPU, then throws if there was a fault. */
  check(): Promise<void>;
}

export function watchWebgpu(device: GPUDevice): GpuFaults {
  let first: string | undefined;
  device.addEventListener('uncapturederror', ({error}) => {
    first ??= error instanceof GPUOutOfMemoryError ? 'out of memory' : `device error: ${error.message}`;
  });
  void device.lost.then(({message, reason}) => {
    first ??= `device error: lost, ${message || reason}`;
  });
  return faults(
    () => first,
    () => device.queue.onSubmittedWorkDone(),
  );
}

export function watchWebgl(backend: MathBackendWebGL): GpuFaults {
  const {gl} = backend.getGPGPUContext();
  let first: string | undefined;
  gl.canvas.addEventListener('webglcontextlost', () => {
    first ??= 'device error: the WebGL context was lost';
  });
  const readError = async () => {
    const code = gl.getError();
    if (code === gl.OUT_OF_MEMORY) first ??= 'out of memory';
    else if (code !== gl.NO_ERROR) first ??= `device error: WebGL error 0x${code.toString(16)}`;
  };
  return faults(() => first, readError);
}

function faults(reason: () => string | undefined, settle: () => Promise<unknown>): GpuFaults {
  return {
    reason,
    check: async () => {
      await settle();
      const found = reason();
      if (found !== undefined) throw new Error(found);
    },
  };
}
