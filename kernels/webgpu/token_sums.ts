/** The WebGPU kernel for sums by token. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {tokenSumsKernel} from '../token_sums_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {TOKEN_SUM_THREADS, tokenSumsShader} from './token_sums_wgsl.js';

export const webgpuTokenSums = tokenSumsKernel('webgpu', ({x, tokens}, {vocabSize}, kernelBackend) => {
  const backend = kernelBackend as WebGPUBackend;
  const [rows, width] = x.shape;
  assertBufferFits(backend.device, 'tokenSums', 'x', x.shape);
  assertBufferFits(backend.device, 'tokenSums', 'the sums', [vocabSize, width]);
  const [element, columns] = width % 4 === 0 ? (['vec4f', width / 4] as const) : (['f32', width] as const);
  const sums = backend.makeTensorInfo([vocabSize, width], 'float32');
  dispatch(backend, {
    key: `token sums ${element}`,
    makeShader: () => tokenSumsShader(element),
    tensors: {x, tokens, sums},
    uniforms: Uint32Array.of(rows, columns, vocabSize).buffer,
    workgroups: vocabSize * Math.ceil(columns / TOKEN_SUM_THREADS),
  });
  return sums;
});
