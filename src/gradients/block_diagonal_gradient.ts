/**
 * Gradients of block-diagonal products. That for x is the product with the transposed blocks, from the output's order
 * to the input's, and that for the weights a sum over the batch, of which in turn both gradients are block-diagonal
 * products.
 */
import {engine, type GradConfig, type NamedAttrMap, type Tensor} from '@tensorflow/tfjs-core';
import {
  BlockDiagonalMatMul,
  type BlockDiagonalMatMulAttrs,
  BlockDiagonalWeights,
  type BlockDiagonalWeightsAttrs,
} from '../kernel_names.js';

export const blockDiagonalGradients: GradConfig[] = [
  {
    kernelName: BlockDiagonalMatMul,
    inputsToSave: ['x', 'w'],
    gradFunc: (dOut, [x, w], namedAttrs) => {
      const {input, output, transpose} = namedAttrs as unknown as BlockDiagonalMatMulAttrs;
      const dy = dOut as Tensor;
      const blocks = w.shape[0];
      return {
        x: () => runBlockDiagonalMatMul(dy, w, {input: output, output: input, transpose: !transpose}),
        w: () =>
          transpose
            ? runBlockDiagonalWeights(dy, x, {input: output, output: input, blocks})
            : runBlockDiagonalWeights(x, dy, {input, output, blocks}),
      };
    },
  },
  {
    kernelName: BlockDiagonalWeights,
    inputsToSave: ['x', 'dy'],
    gradFunc: (dOut, [x, dy], namedAttrs) => {
      const {input, output} = namedAttrs as unknown as BlockDiagonalWeightsAttrs;
      const dw = dOut as Tensor;
      return {
        x: () => runBlockDiagonalMatMul(dy, dw, {input: output, output: input, transpose: true}),
        dy: () => runBlockDiagonalMatMul(x, dw, {input, output, transpose: false}),
      };
    },
  },
];

export function runBlockDiagonalMatMul(x: Tensor, w: Tensor, attrs: BlockDiagonalMatMulAttrs): Tensor {
  return engine().runKernel(BlockDiagonalMatMul, {x, w}, attrs as unknown as NamedAttrMap) as Tensor;
}

function runBlockDiagonalWeights(x: Tensor, dy: Tensor, attrs: BlockDiagonalWeightsAttrs): Tensor {
  return engine().runKernel(BlockDiagonalWeights, {x, dy}, attrs as unknown as NamedAttrMap) as Tensor;
}
