/** The CPU kernels of a language model's loss: plain loops in float64, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import {languageModelLossKernels} from '../language_model_loss_kernels.js';

export const cpuLanguageModelLossKernels = languageModelLossKernels('cpu', {
  forward(inputs, kernelBackend) {
    const backend = kernelBackend as MathBackendCPU;
    const [rows, columns] = inputs.logits.shape;
    const [logits, targets] = [read(backend, inputs.logits), read(backend, inputs.targets)];
    const stats = new Float32Array(2 * rows);
    let loss = 0;
    for (let row = 0; row < rows; row++) {
      const ofRow = logits.subarray(row * columns, (row + 1) * columns);
      let maximum = Number.NEGATIVE_INFINITY;
      for (const logit of ofRow) maximum = Math.max(maximum, logit);
      let sum = 0;
      for (const logit of ofRow) sum += Math.exp(logit - maximum);
      loss += (Math.log(sum) + maximum - (ofRow[targets[row]] ?? maximum)) / rows;
      stats.set([maximum, sum], 2 * row);
    }
    return [
      backend.makeTensorInfo([], 'float32', Float32Array.of(loss)),
      backend.makeTensorInfo([rows, 2], 'float32', stats),
    ];
  },
  backward(inputs, kernelBackend) {
    const backend = kernelBackend as MathBackendCPU;
    const [rows, columns] = inputs.logits.shape;
    const [logits, targets] = [read(backend, inputs.logits), read(backend, inputs.targets)];
    const stats = read(backend, inputs.softmaxStats);
    const factor = read(backend, inputs.dLoss)[0] / rows;
    const dLogits = Float32Array.from(logits, (logit, i) => {
      const row = Math.floor(i / columns);
      const probability = Math.exp(logit - stats[2 * row]) / stats[2 * row + 1];
      return factor * (probability - Number(i - row * columns === targets[row]));
    });
    return backend.makeTensorInfo([rows, columns], 'float32', dLogits);
  },
});

function read(backend: MathBackendCPU, {dataId}: TensorInfo): TypedArray {
  return backend.data.get(dataId).values as TypedArray;
}
