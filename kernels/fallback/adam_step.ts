/** Adam's step for backends that have no kernel of their own: tfjs's ops, one by one. */
import {add, div, getKernel, mul, registerKernel, sqrt, square, sub, type Tensor, tidy} from '@tensorflow/tfjs-core';
import {AdamStep, type AdamStepAttrs, type AdamStepInputs} from '../../src/kernel_names.js';
import {asTensor} from './as_tensor.js';

/** Makes the step available on a backend that has no kernel of its own. */
export function registerAdamStepFallback(backendName: string): void {
  if (getKernel(AdamStep, backendName)) return;
  registerKernel({
    kernelName: AdamStep,
    backendName,
    kernelFunc: ({inputs, attrs}) => {
      const {value, gradient, firstMoment, secondMoment} = inputs as AdamStepInputs;
      const {learningRate, beta1, beta2, epsilon, correction1, correction2} = attrs as unknown as AdamStepAttrs;
      return tidy((): Tensor[] => {
        const g = asTensor(gradient);
        const first = add(mul(asTensor(firstMoment), beta1), mul(g, 1 - beta1));
        const second = add(mul(asTensor(secondMoment), beta2), mul(square(g), 1 - beta2));
        const root = add(sqrt(div(second, correction2)), epsilon);
        return [sub(asTensor(value), mul(div(first, root), learningRate / correction1)), first, second];
      });
    },
  });
}
