/** Counts GPU memory: how many bytes are allocated above a baseline at the peak. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';

export interface PeakBytes {
  /** From here on the peak is counted anew, above what is allocated now. */
  startCount(): void;
  peakBytes(): number;
}

export interface GpuBytes extends PeakBytes {
  /** Growth of the backend's own count of allocated bytes. */
  backendBytes(): number;
}

/** Live and peak bytes of all WebGPU buffers of this page, whoever makes them. */
const webgpuBuffers = {live: 0, peak: 0};

/** Wraps the two methods through which buffers come and go. Call it before the first device is made. */
export function countWebgpuBuffers(): void {
  const {createBuffer} = GPUDevice.prototype;
  const {destroy} = GPUBuffer.prototype;
  const counted = new WeakSet<GPUBuffer>();
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    counted.add(buffer);
    webgpuBuffers.live += buffer.size;
    webgpuBuffers.peak = Math.max(webgpuBuffers.peak, webgpuBuffers.live);
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    if (counted.delete(this)) webgpuBuffers.live -= this.size;
    return destroy.call(this);
  };
}

/** Of the whole page. */
export function pageBytes(): PeakBytes {
  let baseline = 0;
  return {
    startCount: () => {
      baseline = webgpuBuffers.live;
      webgpuBuffers.peak = baseline;
    },
    peakBytes: () => webgpuBuffers.peak - baseline,
  };
}

export function webgpuBytes(backend: WebGPUBackend): GpuBytes {
  const {bufferManager} = backend;
  const {startCount, peakBytes} = pageBytes();
  let backendBaseline = 0;
  return {
    startCount: () => {
      emptyPool(bufferManager);
      startCount();
      backendBaseline = bufferManager.numBytesAllocated;
    },
    peakBytes,
    backendBytes: () => bufferManager.numBytesAllocated - backendBaseline,
  };
}

/** Destroys the buffers that tfjs keeps for reuse, lest the case take them uncounted. */
function emptyPool(manager: WebGPUBackend['bufferManager']): void {
  const {freeBuffers} = manager as unknown as {freeBuffers: Map<string, GPUBuffer[]>};
  for (const pooled of freeBuffers.values()) {
    for (const {size, usage} of [...pooled]) manager.releaseBuffer(manager.acquireBuffer(size, usage), false);
  }
}

/** WebGL: tfjs counts its textures, and keeps freed ones, so that what is allocated after a call was its peak. */
export function webglBytes(backend: MathBackendWebGL): GpuBytes {
  const allocated = () => backend.memory().numBytesInGPUAllocated;
  let baseline = 0;
  const growth = () => allocated() - baseline;
  return {
    startCount: () => {
      baseline = allocated();
    },
    peakBytes: growth,
    backendBytes: growth,
  };
}
