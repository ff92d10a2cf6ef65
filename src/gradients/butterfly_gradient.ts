/** Gradients of products with butterfly matrices; complex numbers are pairs of real ones to them. */
import {engine, type GradConfig, type NamedAttrMap, type NamedTensorMap, type Tensor} from '@tensorflow/tfjs-core';
import {ButterflyMultiply, type ButterflyMultiplyAttrs, ButterflyMultiplyBackward} from '../kernel_names.js';
import {asSavable} from './savable_inputs.js';

const butterflyMultiplyGradient: GradConfig = {
  kernelName: ButterflyMultiply,
  saveAllInputs: true,
  gradFunc: (dys, saved, attrs) => {
    // Saved are the inputs in their order: x, twiddle, and where they are complex xImag, twiddleImag.
    const [x, twiddle, xImag, twiddleImag] = saved;
    const [dy, dyImag] = Array.isArray(dys) ? dys : [dys];
    const inputs = {x, twiddle, dy, ...(xImag && {xImag, twiddleImag, dyImag})};
    const gradients = engine().runKernel(ButterflyMultiplyBackward, inputs, attrs) as Tensor[];
    const names = xImag ? ['x', 'xImag', 'twiddle', 'twiddleImag'] : ['x', 'twiddle'];
    return Object.fromEntries(names.map((name, i) => [name, () => gradients[i]]));
  },
};

const secondOrder: GradConfig = {
  kernelName: ButterflyMultiplyBackward,
  gradFunc: () => {
    throw new Error('butterflyMultiply has no second-order gradient: its gradient cannot itself be differentiated.');
  },
};

export const butterflyGradients: GradConfig[] = [butterflyMultiplyGradient, secondOrder];

/** y, and its imaginary part where the inputs have some. */
export function runButterflyMultiply(inputs: NamedTensorMap, attrs: ButterflyMultiplyAttrs): Tensor[] {
  return engine().runKernel(ButterflyMultiply, asSavable(inputs), attrs as unknown as NamedAttrMap) as Tensor[];
}
