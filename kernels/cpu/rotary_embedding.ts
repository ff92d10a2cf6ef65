/** The CPU kernel of rotary position embedding: plain loops. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import {rotaryEmbeddingKernel, rotarySizes} from '../rotary_embedding_kernels.js';

export const cpuRotaryEmbedding = rotaryEmbeddingKernel('cpu', (inputs, {first, inverse}, kernelBackend) => {
  const backend = kernelBackend as MathBackendCPU;
  const [x, table] = [inputs.x, inputs.table].map((t) => read(backend, t));
  const {sequence, heads, depth} = rotarySizes(inputs);
  const half = depth / 2;
  const turned = new Float32Array(x.length);
  for (let row = 0; row < x.length / depth; row++) {
    const ofPosition = (first + (Math.floor(row / heads) % sequence)) * depth;
    for (let d = 0; d < half; d++) {
      const [cos, sin] = [table[ofPosition + d], table[ofPosition + half + d] * (inverse ? -1 : 1)];
      const at = row * depth + d;
      turned[at] = x[at] * cos - x[at + half] * sin;
      turned[at + half] = x[at + half] * cos + x[at] * sin;
    }
  }
  return backend.makeTensorInfo(inputs.x.shape, 'float32', turned);
});

function read(backend: MathBackendCPU, {dataId}: TensorInfo): TypedArray {
  return backend.data.get(dataId).values as TypedArray;
}
