/**
 * Gradients of the softmax over live blocks. With B(P, dP) = P∘(dP − Σ_row P∘dP), the kernel of the backward pass, the
 * gradient for the scaled values is B(P, dP).
 *
 * B has gradients made of itself, so that there are derivatives of any order. In dP it is linear and symmetric: the
 * gradient for dP of Σ dZ∘B(P, dP) is B(P, dZ). For P it is dZ∘dP − dZ∘Σ_row P∘dP − dP∘Σ_row P∘dZ, and sums of rows are
 * B's too: Σ_row u = u − B(1, u), with 1 a matrix of ones.
 */
import {engine, type GradConfig, mul, type NamedAttrMap, onesLike, sub, type Tensor} from '@tensorflow/tfjs-core';
import {
  BlockSparseSoftmax,
  type BlockSparseSoftmaxAttrs,
  BlockSparseSoftmaxBackward,
  type BlockSparseSoftmaxBackwardAttrs,
} from '../kernel_names.js';
import type {BlockLayout} from '../sparsity/block_layout.js';

export const blockSparseSoftmaxGradients: GradConfig[] = [
  {
    kernelName: BlockSparseSoftmax,
    // tfjs cannot differentiate what depends on saved outputs, so the probabilities are computed again.
    inputsToSave: ['values'],
    gradFunc: (dy, [values], namedAttrs) => {
      const attrs = namedAttrs as unknown as BlockSparseSoftmaxAttrs;
      const {layout, scale} = attrs;
      return {values: () => mul(runBackward(runBlockSparseSoftmax(values, attrs), dy as Tensor, layout), scale)};
    },
  },
  {
    kernelName: BlockSparseSoftmaxBackward,
    inputsToSave: ['probabilities', 'dProbabilities'],
    gradFunc: (dy, [p, dp], attrs) => {
      const {layout} = attrs as unknown as BlockSparseSoftmaxBackwardAttrs;
      const dz = dy as Tensor;
      const rowSums = (u: Tensor) => sub(u, runBackward(onesLike(u), u, layout));
      return {
        probabilities: () => sub(mul(dz, sub(dp, rowSums(mul(p, dp)))), mul(dp, rowSums(mul(p, dz)))),
        dProbabilities: () => runBackward(p, dz, layout),
      };
    },
  },
];

export function runBlockSparseSoftmax(values: Tensor, attrs: BlockSparseSoftmaxAttrs): Tensor {
  return engine().runKernel(BlockSparseSoftmax, {values}, attrs as unknown as NamedAttrMap) as Tensor;
}

function runBackward(probabilities: Tensor, dProbabilities: Tensor, layout: BlockLayout): Tensor {
  const attrs: BlockSparseSoftmaxBackwardAttrs = {layout};
  return engine().runKernel(
    BlockSparseSoftmaxBackward,
    {probabilities, dProbabilities},
    attrs as unknown as NamedAttrMap,
  ) as Tensor;
}
