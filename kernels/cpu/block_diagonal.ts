/** The CPU kernels of block-diagonal products: host arrays in, the float64 loops of block_products.ts, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import type {BlockOrder} from '../../src/kernel_names.js';
import {blockDiagonalKernels} from '../block_diagonal_kernels.js';
import {blockStrides, productSizes, weightsSizes} from '../block_diagonal_sizes.js';
import {type BlockMatrices, blockProducts, type FilledBlockMatrices, transposed} from './block_products.js';

export const cpuBlockDiagonalKernels = blockDiagonalKernels('cpu', {
  product(inputs, attrs, backend) {
    const {batch, blocks, inner, outer} = productSizes(inputs, attrs);
    const x = filled(backend, inputs.x, rowsByBlock(attrs.input, blocks, inner));
    const w = filled(backend, inputs.w, stored(inputs.w.shape));
    const out = rowsByBlock(attrs.output, blocks, outer);
    // Rows of x stand for vectors, so they are multiplied by the transpose of what multiplies vectors.
    const factor = attrs.transpose ? w : transposed(w);
    const product = blockProducts(x, factor, {blocks, rows: batch, inner, columns: outer}, out);
    return write(backend, [batch, blocks * outer], product);
  },
  weights(inputs, attrs, backend) {
    const {batch, blocks, inner, outer} = weightsSizes(inputs, attrs);
    const dy = filled(backend, inputs.dy, rowsByBlock(attrs.output, blocks, outer));
    const x = filled(backend, inputs.x, rowsByBlock(attrs.input, blocks, inner));
    const shape = [blocks, outer, inner];
    const sizes = {blocks, rows: outer, inner: batch, columns: inner};
    return write(backend, shape, blockProducts(transposed(dy), x, sizes, stored(shape)));
  },
});

/** Rows [batch, blocks·blockSize] as a matrix [batch, blockSize] for each block. */
function rowsByBlock(order: BlockOrder, blocks: number, blockSize: number): BlockMatrices {
  const {block, element} = blockStrides(order, blocks, blockSize);
  return {block, rowStride: blocks * blockSize, columnStride: element};
}

/** Matrices one after the other, [blocks, rows, columns]. */
function stored([, rows, columns]: number[]): BlockMatrices {
  return {block: rows * columns, rowStride: columns, columnStride: 1};
}

function filled(backend: object, {dataId}: TensorInfo, matrices: BlockMatrices): FilledBlockMatrices {
  return {...matrices, values: (backend as MathBackendCPU).data.get(dataId).values as TypedArray};
}

function write(backend: object, shape: number[], values: Float64Array): TensorInfo {
  return (backend as MathBackendCPU).makeTensorInfo(shape, 'float32', Float32Array.from(values));
}
