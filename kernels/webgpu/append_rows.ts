/** The WebGPU kernel that writes rows into a tensor: copies from buffer to buffer, and no shader. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {BackendValues} from '@tensorflow/tfjs-core';
import {appendRowsInPlace, rowRanges} from '../append_rows_kernels.js';
import {assertBufferFits, BYTES_PER_ELEMENT} from './buffer_limits.js';
import {copy} from './dispatch.js';

export const webgpuAppendRows = appendRowsInPlace('webgpu', (inputs, attrs, kernelBackend) => {
  const backend = kernelBackend as WebGPUBackend;
  const {destination, rows} = inputs;
  assertBufferFits(backend.device, 'appendRows', 'the destination', destination.shape);
  const ranges = rowRanges(inputs, attrs);
  copy(backend, rows, destination, (encoder, source, target) => {
    for (const range of ranges) {
      const [from, to, bytes] = [range.source, range.target, range.count].map((n) => n * BYTES_PER_ELEMENT);
      encoder.copyBufferToBuffer(source, from, target, to, bytes);
    }
  });
  // What an earlier read has left on the host is out of date.
  const data: {values: BackendValues | null} = backend.tensorMap.get(destination.dataId);
  data.values = null;
});
