/** The CPU kernel for sums by token: plain loops in float64, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TypedArray} from '@tensorflow/tfjs-core';
import {tokenSumsKernel} from '../token_sums_kernels.js';

export const cpuTokenSums = tokenSumsKernel('cpu', (inputs, {vocabSize}, kernelBackend) => {
  const backend = kernelBackend as MathBackendCPU;
  const [x, tokens] = [inputs.x, inputs.tokens].map(({dataId}) => backend.data.get(dataId).values as TypedArray);
  const [rows, columns] = inputs.x.shape;
  const sums = new Float64Array(vocabSize * columns);
  for (let row = 0; row < rows; row++) {
    const token = tokens[row];
    if (token < 0 || token >= vocabSize) continue;
    for (let column = 0; column < columns; column++) sums[token * columns + column] += x[row * columns + column];
  }
  return backend.makeTensorInfo([vocabSize, columns], 'float32', Float32Array.from(sums));
});
