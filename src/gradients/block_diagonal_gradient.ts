/**
 * Gradients of block-diagonal products. That for x is the product with the transposed blocks, from the output's order
 * to the input's, and that for the weights a sum over the batch, of which in turn both gradients are block-diagonal
 * products.
 */
import {engine, type GradConfig, getKernel, type NamedAttrMap, type Tensor} from '@tensorflow/tfjs-core';
import {
  BlockDiagonalBackward,
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
      if (bestMadeTogether(x, w)) {
        // tfjs calls each function below in a tidy of its own, so what they share is made out here.
        const [dx, dw] = engine().runKernel(BlockDiagonalBackward, {x, w, dy}, namedAttrs) as Tensor[];
        return {x: () => dx, w: () => dw};
      }
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

/** Of one product: some 10 µs of a large GPU. Blocks smaller than this are no faster, for each reads and writes memory. */
const FEW_MULTIPLY_ADDS = 2 ** 26;
const SMALL_BLOCK = 32;

/** A sum over a longer batch, which one workgroup adds up, outlasts the rest of a small product. */
const SHORT_BATCH = 1024;

/**
 * Small products take a GPU longer to begin and to end than to compute, and leave parts of it without work, so that two
 * at once take hardly more time than one. tfjs does not say which gradients it wants before it has the first; where only
 * one is wanted, the other is made in vain, which larger products could not afford. Nor are they made together where
 * they may be differentiated in turn: the two kernels that they come from otherwise have gradients.
 */
function bestMadeTogether(x: Tensor, w: Tensor): boolean {
  const [batch] = x.shape;
  const [blocks, rows, columns] = w.shape;
  const multiplyAdds = batch * blocks * Math.max(rows, SMALL_BLOCK) * Math.max(columns, SMALL_BLOCK);
  return (
    batch <= SHORT_BATCH &&
    multiplyAdds <= FEW_MULTIPLY_ADDS &&
    engine().state.gradientDepth === 0 &&
    getKernel(BlockDiagonalBackward, engine().backendName) !== undefined
  );
}

export function runBlockDiagonalMatMul(x: Tensor, w: Tensor, attrs: BlockDiagonalMatMulAttrs): Tensor {
  return engine().runKernel(BlockDiagonalMatMul, {x, w}, attrs as unknown as NamedAttrMap) as Tensor;
}

function runBlockDiagonalWeights(x: Tensor, dy: Tensor, attrs: BlockDiagonalWeightsAttrs): Tensor {
  return engine().runKernel(BlockDiagonalWeights, {x, dy}, attrs as unknown as NamedAttrMap) as Tensor;
}
