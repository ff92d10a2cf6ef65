/** The CPU kernels of butterfly products: host arrays in, the float64 loops of butterfly_products.ts, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {KernelFunc, TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import type {
  ButterflyMultiplyAttrs,
  ButterflyMultiplyBackwardInputs,
  ButterflyMultiplyInputs,
} from '../../src/kernel_names.js';
import {butterflyKernels} from '../butterfly_kernels.js';
import {butterflySizes} from '../butterfly_sizes.js';
import {type ButterflyProblem, butterflyBackward, butterflyForward, type Numbers} from './butterfly_products.js';

type KernelCall = Parameters<KernelFunc>[0];

function butterflyMultiply(call: KernelCall): TensorInfo[] {
  const problem = problemOf(call);
  const {batch, outputSize} = problem.sizes;
  return write(call, [batch, outputSize], butterflyForward(problem));
}

function butterflyMultiplyBackward(call: KernelCall): TensorInfo[] {
  const {x, twiddle, dy, dyImag} = call.inputs as ButterflyMultiplyBackwardInputs;
  const {dx, dTwiddle} = butterflyBackward(problemOf(call), read(call, dy, dyImag));
  return [...write(call, x.shape, dx), ...write(call, twiddle.shape, dTwiddle)];
}

function problemOf(call: KernelCall): ButterflyProblem {
  const inputs = call.inputs as ButterflyMultiplyInputs;
  const attrs = call.attrs as unknown as ButterflyMultiplyAttrs;
  return {
    sizes: butterflySizes(inputs, attrs),
    attrs,
    x: read(call, inputs.x, inputs.xImag),
    twiddle: read(call, inputs.twiddle, inputs.twiddleImag),
  };
}

function read(call: KernelCall, real: TensorInfo, imag: TensorInfo | undefined): Numbers {
  const valuesOf = ({dataId}: TensorInfo) => (call.backend as MathBackendCPU).data.get(dataId).values as TypedArray;
  return {real: valuesOf(real), ...(imag && {imag: valuesOf(imag)})};
}

function write(call: KernelCall, shape: number[], {real, imag}: Numbers): TensorInfo[] {
  return [real, imag].flatMap((values) =>
    values ? [(call.backend as MathBackendCPU).makeTensorInfo(shape, 'float32', Float32Array.from(values))] : [],
  );
}

export const cpuButterflyKernels = butterflyKernels('cpu', {
  forward: butterflyMultiply,
  backward: butterflyMultiplyBackward,
});
