/** The kernel of dense products that a backend has, and their sizes, which all of them work out the same way. */
import type {KernelConfig, TensorInfo} from '@tensorflow/tfjs-core';
import {DenseMatMul, type DenseMatMulAttrs, type DenseMatMulInputs} from '../src/kernel_names.js';
import {matMulOfTfjs} from './fallback/dense_mat_mul.js';

/** Of a product a·b: what it makes, and what lies between a and b. */
export interface DenseMatMulSizes {
  rows: number;
  columns: number;
  inner: number;
}

/** One product. */
export interface DenseMatMulCall {
  inputs: DenseMatMulInputs;
  attrs: DenseMatMulAttrs;
  sizes: DenseMatMulSizes;
}

/** @param multiply makes a product, or nothing of one that is better left to tfjs. */
export function denseMatMulKernel(
  backendName: string,
  multiply: (call: DenseMatMulCall, backend: object) => TensorInfo | undefined,
): KernelConfig {
  return {
    kernelName: DenseMatMul,
    backendName,
    kernelFunc: (call): TensorInfo => {
      const inputs = call.inputs as DenseMatMulInputs;
      const attrs = call.attrs as unknown as DenseMatMulAttrs;
      const product = {inputs, attrs, sizes: denseMatMulSizes(inputs, attrs)};
      return multiply(product, call.backend) ?? matMulOfTfjs(inputs, attrs);
    },
  };
}

function denseMatMulSizes({a, b}: DenseMatMulInputs, {transposeA, transposeB}: DenseMatMulAttrs): DenseMatMulSizes {
  const [rows, inner] = transposeA ? [...a.shape].reverse() : a.shape;
  return {rows, inner, columns: b.shape[transposeB ? 0 : 1]};
}
