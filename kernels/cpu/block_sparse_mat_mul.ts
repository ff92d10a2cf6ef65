/** The CPU kernel of block-sparse products: host arrays in, the float64 loops of block_sparse_products.ts, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {KernelConfig, TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import {BlockSparseMatMul, type BlockSparseMatMulAttrs, type BlockSparseMatMulInputs} from '../../src/kernel_names.js';
import {blockSparseSizes, productShape} from '../block_sparse_sizes.js';
import {matrixView, sampledProduct, sparseTimesDense} from './block_sparse_products.js';

export const cpuBlockSparseMatMul: KernelConfig = {
  kernelName: BlockSparseMatMul,
  backendName: 'cpu',
  kernelFunc: (call) => {
    const backend = call.backend as MathBackendCPU;
    const inputs = call.inputs as BlockSparseMatMulInputs;
    const attrs = call.attrs as unknown as BlockSparseMatMulAttrs;
    const read = ({dataId}: TensorInfo) => backend.data.get(dataId).values as TypedArray;
    const {shape, values} = blockSparseProduct(inputs, attrs, read(inputs.a), read(inputs.b));
    return backend.makeTensorInfo(shape, 'float32', Float32Array.from(values));
  },
};

/** The product of a kernel call, given the elements of its matrices. */
export function blockSparseProduct(
  inputs: BlockSparseMatMulInputs,
  attrs: BlockSparseMatMulAttrs,
  aValues: ArrayLike<number>,
  bValues: ArrayLike<number>,
): {shape: number[]; values: Float64Array} {
  const {mode, layout, transposeA, transposeB, sumBatch} = attrs;
  const {a, b} = inputs;
  const sizes = blockSparseSizes(inputs, attrs);
  const {batch, heads, rows, inner, columns} = sizes;
  const shape = productShape(sizes, attrs);
  const view = (values: ArrayLike<number>, {shape}: TensorInfo, transposed: boolean) =>
    matrixView(values, shape[3], transposed);
  if (mode === 'sdd') {
    const product = [view(aValues, a, transposeA), view(bValues, b, transposeB)] as const;
    return {shape, values: sampledProduct(layout, sizes, ...product, sumBatch)};
  }
  if (mode === 'dsd') {
    const blocks = {values: aValues, sharedByBatch: a.shape[0] === 1};
    const strides = {outer: columns, free: 1};
    const dense = view(bValues, b, transposeB);
    const problem = {batch, heads, outer: rows, inner, free: columns};
    return {shape, values: sparseTimesDense(layout, transposeA, blocks, dense, problem, strides)};
  }
  // outᵀ = op(b)ᵀ·op(a)ᵀ.
  const blocks = {values: bValues, sharedByBatch: b.shape[0] === 1};
  const strides = {outer: 1, free: columns};
  const dense = view(aValues, a, !transposeA);
  const problem = {batch, heads, outer: columns, inner, free: rows};
  return {shape, values: sparseTimesDense(layout, !transposeB, blocks, dense, problem, strides)};
}
