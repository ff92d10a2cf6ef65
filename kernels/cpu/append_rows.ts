/** The CPU kernel that writes rows into a tensor. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TypedArray} from '@tensorflow/tfjs-core';
import {appendRowsInPlace, rowRanges} from '../append_rows_kernels.js';

export const cpuAppendRows = appendRowsInPlace('cpu', (inputs, attrs, backend) => {
  const {data} = backend as MathBackendCPU;
  const rows = data.get(inputs.rows.dataId).values as TypedArray;
  const destination = data.get(inputs.destination.dataId).values as TypedArray;
  for (const {source, target, count} of rowRanges(inputs, attrs)) {
    destination.set(rows.subarray(source, source + count), target);
  }
});
