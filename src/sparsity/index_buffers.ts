/** Buffers of indices that kernels make of a layout and keep from call to call. */
import {engine, type KernelBackend, type KernelConfig, type TensorInfo} from '@tensorflow/tfjs-core';

/** Of all layouts, since the page was loaded. */
let buffersMade = 0;

/** The index buffers of one layout, by backend and by what they hold. */
export class IndexBuffers {
  private readonly byBackend = new Map<KernelBackend, Map<string, TensorInfo>>();

  get(backend: KernelBackend, name: string, make: () => {shape: number[]; values: Int32Array}): TensorInfo {
    const ofBackend = this.byBackend.get(backend) ?? new Map<string, TensorInfo>();
    this.byBackend.set(backend, ofBackend);
    let buffer = ofBackend.get(name);
    if (!buffer) {
      const {shape, values} = make();
      buffer = {dataId: backend.write(values, shape, 'int32'), shape, dtype: 'int32'};
      ofBackend.set(name, buffer);
      buffersMade++;
    }
    return buffer;
  }

  dispose(): void {
    for (const [backend, buffers] of this.byBackend) {
      for (const {dataId} of buffers.values()) backend.disposeData(dataId);
    }
    this.byBackend.clear();
  }
}

/**
 * The kernel, allowed to leave index buffers behind. In tests tfjs takes data beside a kernel's outputs for a leak,
 * unless it counts as moved to the backend meanwhile. It reads that count at the top of a stack on which every op that
 * the kernel runs leaves its own, so the buffers are counted at the very end.
 */
export function keepingIndexBuffers(kernel: KernelConfig): KernelConfig {
  const kernelFunc: typeof kernel.kernelFunc = (call) => {
    const before = buffersMade;
    const outputs = kernel.kernelFunc(call);
    const {numDataMovesStack} = engine().state;
    if (numDataMovesStack.length > 0) numDataMovesStack[numDataMovesStack.length - 1] += buffersMade - before;
    return outputs;
  };
  return {...kernel, kernelFunc};
}
