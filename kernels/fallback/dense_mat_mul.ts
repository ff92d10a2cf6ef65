/** Dense products on backends that have no kernel of their own: tfjs's, which adds the bias on the way. */
import {fused, getKernel, registerKernel, type Tensor, type TensorInfo, tidy} from '@tensorflow/tfjs-core';
import {DenseMatMul, type DenseMatMulAttrs, type DenseMatMulInputs} from '../../src/kernel_names.js';
import {asTensor} from './as_tensor.js';

/** Makes dense products available on a backend that has no kernel of its own. */
export function registerDenseMatMulFallback(backendName: string): void {
  if (getKernel(DenseMatMul, backendName)) return;
  registerKernel({
    kernelName: DenseMatMul,
    backendName,
    kernelFunc: ({inputs, attrs}) => matMulOfTfjs(inputs as DenseMatMulInputs, attrs as unknown as DenseMatMulAttrs),
  });
}

export function matMulOfTfjs({a, b, bias}: DenseMatMulInputs, attrs: DenseMatMulAttrs): TensorInfo {
  return tidy((): Tensor => fused.matMul({a: asTensor(a), b: asTensor(b), bias: bias && asTensor(bias), ...attrs}));
}
