/** Gradients of attention: which backward kernel makes the gradient of which input. */
import {engine, type GradConfig, type NamedTensorMap, type Tensor} from '@tensorflow/tfjs-core';
import {
  FlashAttention,
  type FlashAttentionAttrs,
  FlashAttentionBackward,
  FlashAttentionBiasBackward,
  FlashAttentionSlopesBackward,
} from '../kernel_names.js';
import {noSecondOrder} from './second_order.js';

const flashAttentionGradient: GradConfig = {
  kernelName: FlashAttention,
  saveAllInputs: true,
  outputsToSave: [true, true],
  gradFunc: (dys, saved, namedAttrs) => {
    const attrs = namedAttrs as unknown as FlashAttentionAttrs;
    const [dOutput, dSoftmaxStats] = dys as Tensor[];
    const inputs: NamedTensorMap = {dOutput};
    if (attrs.lseHasGradient) inputs.dSoftmaxStats = dSoftmaxStats;
    [...attrs.inputNames, 'output', 'softmaxStats'].forEach((name, i) => {
      inputs[name] = saved[i];
    });
    // tfjs calls each function below in a tidy of its own, so what several of them share is made out here.
    const [dq, dk, dv] = engine().runKernel(FlashAttentionBackward, inputs, namedAttrs) as Tensor[];
    return {
      q: () => dq,
      k: () => dk,
      v: () => dv,
      bias: () => engine().runKernel(FlashAttentionBiasBackward, inputs, namedAttrs) as Tensor,
      alibiSlopes: () => engine().runKernel(FlashAttentionSlopesBackward, inputs, namedAttrs) as Tensor,
      mask: () => notDifferentiable('mask'),
      queryLengths: () => notDifferentiable('queryLengths'),
      keyLengths: () => notDifferentiable('keyLengths'),
    };
  },
};

function notDifferentiable(argument: string): never {
  throw new Error(`flashAttention has no gradient with respect to ${argument}, which is not a float tensor.`);
}

export const flashAttentionGradients: GradConfig[] = [
  flashAttentionGradient,
  ...[FlashAttentionBackward, FlashAttentionBiasBackward, FlashAttentionSlopesBackward].map((kernelName) =>
    noSecondOrder(kernelName, 'flashAttention', 'write the attention with tf.matMul and tf.softmax'),
  ),
];
