/** The CPU kernel for sums of columns: plain loops in float64, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TypedArray} from '@tensorflow/tfjs-core';
import {columnSumsKernel} from '../column_sums_kernels.js';

export const cpuColumnSums = columnSumsKernel('cpu', (x, kernelBackend) => {
  const backend = kernelBackend as MathBackendCPU;
  const values = backend.data.get(x.dataId).values as TypedArray;
  const [rows, columns] = x.shape;
  const sums = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) sums[column] += values[row * columns + column];
  }
  return backend.makeTensorInfo([columns], 'float32', Float32Array.from(sums));
});
