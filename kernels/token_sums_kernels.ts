/** The kernel that makes sums by token available on a backend. */
import {type KernelConfig, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {TokenSums, type TokenSumsAttrs, type TokenSumsInputs} from '../src/kernel_names.js';

/** @param sumByToken is never asked about empty rows, which GPU kernels cannot bind. */
export function tokenSumsKernel(
  backendName: string,
  sumByToken: (inputs: TokenSumsInputs, attrs: TokenSumsAttrs, backend: object) => TensorInfo,
): KernelConfig {
  return {
    kernelName: TokenSums,
    backendName,
    kernelFunc: (call): TensorInfo => {
      const inputs = call.inputs as TokenSumsInputs;
      const attrs = call.attrs as unknown as TokenSumsAttrs;
      const {shape} = inputs.x;
      if (util.sizeFromShape(shape) === 0) return zeros([attrs.vocabSize, shape[1]]);
      return sumByToken(inputs, attrs, call.backend);
    },
  };
}
