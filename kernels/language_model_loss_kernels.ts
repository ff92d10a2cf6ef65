/** The kernels that make a language model's loss available on a backend. */
import {type KernelConfig, type KernelFunc, scalar, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {
  LanguageModelLoss,
  LanguageModelLossBackward,
  type LanguageModelLossBackwardInputs,
  type LanguageModelLossInputs,
} from '../src/kernel_names.js';

/** What a backend does for each of them; it is never asked about empty logits, which GPU kernels cannot bind. */
export interface LanguageModelLossKernelFuncs {
  /** @returns the loss and softmaxStats. */
  forward(inputs: LanguageModelLossInputs, backend: object): TensorInfo[];
  backward(inputs: LanguageModelLossBackwardInputs, backend: object): TensorInfo;
}

/** The kernels of one backend, ready to be registered. */
export function languageModelLossKernels(
  backendName: string,
  {forward, backward}: LanguageModelLossKernelFuncs,
): KernelConfig[] {
  const forwardUnlessEmpty: KernelFunc = (call) => {
    const inputs = call.inputs as LanguageModelLossInputs;
    // The mean of nothing is not a number.
    return isEmpty(inputs) ? [scalar(Number.NaN), zeros([inputs.logits.shape[0], 2])] : forward(inputs, call.backend);
  };
  const backwardUnlessEmpty: KernelFunc = (call) => {
    const inputs = call.inputs as LanguageModelLossBackwardInputs;
    return isEmpty(inputs) ? zeros(inputs.logits.shape) : backward(inputs, call.backend);
  };
  return [
    {kernelName: LanguageModelLoss, backendName, kernelFunc: forwardUnlessEmpty},
    {kernelName: LanguageModelLossBackward, backendName, kernelFunc: backwardUnlessEmpty},
  ];
}

function isEmpty({logits}: LanguageModelLossInputs): boolean {
  return util.sizeFromShape(logits.shape) === 0;
}
