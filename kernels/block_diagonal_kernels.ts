/** The kernels that make products with block-diagonal matrices available on a backend. */
import {type KernelConfig, type KernelFunc, type TensorInfo, zeros} from '@tensorflow/tfjs-core';
import {
  BlockDiagonalBackward,
  type BlockDiagonalBackwardInputs,
  BlockDiagonalMatMul,
  type BlockDiagonalMatMulAttrs,
  type BlockDiagonalMatMulInputs,
  BlockDiagonalWeights,
  type BlockDiagonalWeightsAttrs,
  type BlockDiagonalWeightsInputs,
} from '../src/kernel_names.js';
import {productSizes, weightsSizes} from './block_diagonal_sizes.js';

/** What a backend does for each of them; it is never asked about empty batches, which GPU kernels cannot bind. */
export interface BlockDiagonalKernelFuncs {
  product(inputs: BlockDiagonalMatMulInputs, attrs: BlockDiagonalMatMulAttrs, backend: object): TensorInfo;
  weights(inputs: BlockDiagonalWeightsInputs, attrs: BlockDiagonalWeightsAttrs, backend: object): TensorInfo;
  /** Where both gradients of a product take less time together than one after the other. */
  backward?(inputs: BlockDiagonalBackwardInputs, attrs: BlockDiagonalMatMulAttrs, backend: object): TensorInfo[];
}

/** The kernels of one backend, ready to be registered. */
export function blockDiagonalKernels(backendName: string, funcs: BlockDiagonalKernelFuncs): KernelConfig[] {
  const product: KernelFunc = (call) => {
    const inputs = call.inputs as BlockDiagonalMatMulInputs;
    const attrs = call.attrs as unknown as BlockDiagonalMatMulAttrs;
    const {batch, blocks, outer} = productSizes(inputs, attrs);
    return batch === 0 ? zeros([0, blocks * outer]) : funcs.product(inputs, attrs, call.backend);
  };
  const weights: KernelFunc = (call) => {
    const inputs = call.inputs as BlockDiagonalWeightsInputs;
    const attrs = call.attrs as unknown as BlockDiagonalWeightsAttrs;
    const {batch, blocks, outer, inner} = weightsSizes(inputs, attrs);
    return batch === 0 ? zeros([blocks, outer, inner]) : funcs.weights(inputs, attrs, call.backend);
  };
  const backward: KernelFunc = (call) => {
    const inputs = call.inputs as BlockDiagonalBackwardInputs;
    const {x, w} = inputs;
    const attrs = call.attrs as unknown as BlockDiagonalMatMulAttrs;
    if (x.shape[0] === 0) return [zeros(x.shape), zeros(w.shape)];
    return (funcs.backward as NonNullable<typeof funcs.backward>)(inputs, attrs, call.backend);
  };
  return [
    {kernelName: BlockDiagonalMatMul, backendName, kernelFunc: product},
    {kernelName: BlockDiagonalWeights, backendName, kernelFunc: weights},
    ...(funcs.backward ? [{kernelName: BlockDiagonalBackward, backendName, kernelFunc: backward}] : []),
  ];
}
