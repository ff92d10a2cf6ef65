/** The gradient of a language model's loss, (softmax − one-hot) / rows, from the logits and the two numbers kept per row. */
import {engine, type GradConfig, type Scalar, type Tensor, type Tensor1D, type Tensor2D} from '@tensorflow/tfjs-core';
import {LanguageModelLoss, LanguageModelLossBackward} from '../kernel_names.js';
import {noSecondOrder} from './second_order.js';

export const languageModelLossGradients: GradConfig[] = [
  {
    kernelName: LanguageModelLoss,
    inputsToSave: ['logits', 'targets'],
    outputsToSave: [false, true],
    gradFunc: (dys, [logits, targets, softmaxStats]) => {
      const [dLoss] = dys as Tensor[];
      const inputs = {logits, targets, softmaxStats, dLoss};
      return {logits: () => engine().runKernel(LanguageModelLossBackward, inputs) as Tensor};
    },
  },
  noSecondOrder(LanguageModelLossBackward, 'languageModelLoss', 'write it with tf.logSoftmax and tf.oneHot'),
];

export function runLanguageModelLoss(logits: Tensor2D, targets: Tensor1D): Scalar {
  const [loss] = engine().runKernel(LanguageModelLoss, {logits, targets}) as Tensor[];
  return loss as Scalar;
}
