/** GPU memory of tfjs's tensors: how much there is now, and how much there was at the peak. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '../src/tf.js';

/** Bytes in use: on the GPU, or on the CPU where that computes. */
export function usedBytes(): number {
  // Before a backend has started there are no tensors, and tfjs does not let itself be asked.
  if (!tf.engine().backendName) return 0;
  const memory = tf.memory();
  return 'numBytesInGPU' in memory ? Number(memory.numBytesInGPU) : memory.numBytes;
}

/** The peak of the bytes in use, since the last `restart`. Buffers that tfjs keeps for reuse do not count. */
export class MemoryMeter {
  private peak = 0;

  restart(): void {
    this.peak = usedBytes();
  }

  get peakBytes(): number {
    return Math.max(this.peak, usedBytes());
  }

  /** Looks at every buffer or texture that the backend takes into use from now on. */
  watch(backend: unknown): void {
    if (isWebgpu(backend)) {
      const {bufferManager} = backend;
      const acquire = bufferManager.acquireBuffer;
      bufferManager.acquireBuffer = (...args) => {
        const buffer = acquire.apply(bufferManager, args);
        this.note(bufferManager.numBytesUsed);
        return buffer;
      };
    } else if (isWebgl(backend)) {
      const textures = backend.getTextureManager();
      const acquire = textures.acquireTexture;
      textures.acquireTexture = (...args) => {
        const texture = acquire.apply(textures, args);
        this.note(textures.numBytesAllocated - textures.numBytesFree);
        return texture;
      };
    }
  }

  private note(bytes: number): void {
    this.peak = Math.max(this.peak, bytes);
  }
}

function isWebgpu(backend: unknown): backend is WebGPUBackend {
  return typeof backend === 'object' && backend !== null && 'bufferManager' in backend;
}

function isWebgl(backend: unknown): backend is MathBackendWebGL {
  return typeof backend === 'object' && backend !== null && 'getTextureManager' in backend;
}
