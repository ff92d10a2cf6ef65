/** The kernels that make butterfly products available on a backend. */
import {type KernelConfig, type KernelFunc, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {
  ButterflyMultiply,
  type ButterflyMultiplyAttrs,
  ButterflyMultiplyBackward,
  type ButterflyMultiplyBackwardInputs,
  type ButterflyMultiplyInputs,
} from '../src/kernel_names.js';

/** What a backend does for each of them; it is never asked about empty tensors, which GPU kernels cannot bind. */
export interface ButterflyKernelFuncs {
  forward: KernelFunc;
  backward: KernelFunc;
}

/** The kernels of one backend, ready to be registered. */
export function butterflyKernels(backendName: string, {forward, backward}: ButterflyKernelFuncs): KernelConfig[] {
  return [
    {kernelName: ButterflyMultiply, backendName, kernelFunc: unlessEmpty(forward, outputOfNothing)},
    {kernelName: ButterflyMultiplyBackward, backendName, kernelFunc: unlessEmpty(backward, gradientsOfNothing)},
  ];
}

type KernelCall = Parameters<KernelFunc>[0];

function unlessEmpty(kernelFunc: KernelFunc, ofNothing: (call: KernelCall) => TensorInfo[]): KernelFunc {
  return (call) => {
    const {x} = call.inputs as ButterflyMultiplyInputs;
    return util.sizeFromShape(x.shape) === 0 ? ofNothing(call) : kernelFunc(call);
  };
}

function outputOfNothing({inputs, attrs}: KernelCall): TensorInfo[] {
  const {x, xImag} = inputs as ButterflyMultiplyInputs;
  const {outputSize} = attrs as unknown as ButterflyMultiplyAttrs;
  return [x, xImag].flatMap((part) => (part ? [zeros([0, outputSize])] : []));
}

function gradientsOfNothing({inputs}: KernelCall): TensorInfo[] {
  const {x, xImag, twiddle, twiddleImag} = inputs as ButterflyMultiplyBackwardInputs;
  return [x, xImag, twiddle, twiddleImag].flatMap((part) => (part ? [zeros(part.shape)] : []));
}
