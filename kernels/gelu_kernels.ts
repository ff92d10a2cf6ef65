/** The kernels that make gelu available on a backend. */
import {type KernelConfig, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {Gelu, type GeluAttrs, GeluBackward, type GeluBackwardInputs, type GeluInputs} from '../src/kernel_names.js';

/** What a backend does for each of them; it is never asked about empty tensors, which GPU kernels cannot bind. */
export interface GeluKernelFuncs {
  forward(inputs: GeluInputs, attrs: GeluAttrs, backend: object): TensorInfo;
  backward(inputs: GeluBackwardInputs, attrs: GeluAttrs, backend: object): TensorInfo;
}

/** The kernels of one backend, ready to be registered. */
export function geluKernels(backendName: string, {forward, backward}: GeluKernelFuncs): KernelConfig[] {
  return [
    {
      kernelName: Gelu,
      backendName,
      kernelFunc: (call): TensorInfo => {
        const inputs = call.inputs as GeluInputs;
        const attrs = call.attrs as unknown as GeluAttrs;
        return isEmpty(inputs) ? zeros(inputs.x.shape) : forward(inputs, attrs, call.backend);
      },
    },
    {
      kernelName: GeluBackward,
      backendName,
      kernelFunc: (call): TensorInfo => {
        const inputs = call.inputs as GeluBackwardInputs;
        const attrs = call.attrs as unknown as GeluAttrs;
        return isEmpty(inputs) ? zeros(inputs.x.shape) : backward(inputs, attrs, call.backend);
      },
    },
  ];
}

function isEmpty({x}: GeluInputs): boolean {
  return util.sizeFromShape(x.shape) === 0;
}
