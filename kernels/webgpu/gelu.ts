/** The WebGPU kernels of gelu. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {type TensorInfo, util} from '@tensorflow/tfjs-core';
import type {GeluAttrs, GeluBackwardInputs, GeluInputs} from '../../src/kernel_names.js';
import {geluKernels} from '../gelu_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {GELU_THREADS, type GeluVariant, geluShader} from './gelu_wgsl.js';

export const webgpuGeluKernels = geluKernels('webgpu', {
  forward: (inputs, attrs, backend) => run(inputs, attrs, backend as WebGPUBackend, false),
  backward: (inputs, attrs, backend) => run(inputs, attrs, backend as WebGPUBackend, true),
});

function run(
  inputs: GeluInputs | GeluBackwardInputs,
  {approximate}: GeluAttrs,
  backend: WebGPUBackend,
  backward: boolean,
): TensorInfo {
  const {x, bias} = inputs;
  assertBufferFits(backend.device, 'gelu', 'x', x.shape);
  const size = util.sizeFromShape(x.shape);
  // Without a bias, columns do not matter.
  const columns = bias ? bias.shape[0] : size;
  const [element, width] = columns % 4 === 0 ? (['vec4f', 4] as const) : (['f32', 1] as const);
  const variant: GeluVariant = {approximate, hasBias: bias !== undefined, element, backward};
  const result = backend.makeTensorInfo(x.shape, 'float32');
  dispatch(backend, {
    key: `gelu ${JSON.stringify(variant)}`,
    makeShader: () => geluShader(variant),
    tensors: {...inputs, result},
    uniforms: Uint32Array.of(size / width, columns / width).buffer,
    workgroups: Math.ceil(size / width / GELU_THREADS),
  });
  return result;
}
