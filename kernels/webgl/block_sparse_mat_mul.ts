/** The WebGL kernel of block-sparse products: a program that visits live blocks only, and the indices that lead it. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {type KernelConfig, util, zeros} from '@tensorflow/tfjs-core';
import {BlockSparseMatMul, type BlockSparseMatMulAttrs, type BlockSparseMatMulInputs} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {type BlockSparseSizes, blockSparseSizes, productShape} from '../block_sparse_sizes.js';
import {
  type ProductVariant,
  productUniforms,
  sampledProductProgram,
  sparseTimesDenseProgram,
} from './block_sparse_programs.js';
import {places, walkIndices} from './index_textures.js';
import {type PackedProgram, runPackedProgram, type Textures} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';

export const webglBlockSparseMatMul: KernelConfig = {
  kernelName: BlockSparseMatMul,
  backendName: 'webgl',
  kernelFunc: (call) => {
    const backend = call.backend as MathBackendWebGL;
    const inputs = call.inputs as BlockSparseMatMulInputs;
    const attrs = call.attrs as unknown as BlockSparseMatMulAttrs;
    const {a, b} = inputs;
    const sizes = blockSparseSizes(inputs, attrs);
    const output = productShape(sizes, attrs);
    // How many batch entries the sparse matrix has.
    const [entries] = {sdd: output, dsd: a.shape, dds: b.shape}[attrs.mode];
    // What has no elements has no texture.
    if ([a.shape, b.shape, output].some((shape) => util.sizeFromShape(shape) === 0)) return zeros(output);
    assertTexturesFit('blockSparseMatMul', {a: a.shape, b: b.shape, output});
    const {program, indices} = programOf(backend, attrs);
    const values = uniformValues(attrs.layout, sizes, entries);
    return runPackedProgram(backend, program, output, {matrixA: a, matrixB: b, ...indices}, productUniforms, values);
  },
};

function programOf(
  backend: MathBackendWebGL,
  {mode, layout, transposeA, transposeB}: BlockSparseMatMulAttrs,
): {program: PackedProgram; indices: Textures} {
  const evenBlocks = layout.blockSize.every((size) => size % 2 === 0);
  const variant: ProductVariant = {transposeA, transposeB, evenBlocks};
  if (mode === 'sdd') return {program: sampledProductProgram(variant), indices: {places: places(backend, layout)}};
  if (mode === 'dsd') {
    return {program: sparseTimesDenseProgram(variant, 'matrixA'), indices: walkIndices(backend, layout, transposeA)};
  }
  // The columns of op(b) are the rows of its transpose.
  return {program: sparseTimesDenseProgram(variant, 'matrixB'), indices: walkIndices(backend, layout, !transposeB)};
}

function uniformValues(layout: BlockLayout, sizes: BlockSparseSizes, entries: number): number[][] {
  const [rowSize, colSize] = layout.blockSize;
  const values = {...sizes, entries, nnz: layout.nnz, rowSize, colSize};
  return productUniforms.map(({name}) => [values[name]]);
}
