/** The WebGL kernels of products with block-diagonal matrices: one pass each, which reads its operands where they lie. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {BlockDiagonalMatMulAttrs, BlockOrder} from '../../src/kernel_names.js';
import {blockDiagonalKernels} from '../block_diagonal_kernels.js';
import {type BlockDiagonalSizes, productSizes, weightsSizes} from '../block_diagonal_sizes.js';
import {
  blockDiagonalProgram,
  blockDiagonalUniforms,
  blockDiagonalWeightsProgram,
  type OutputColumns,
} from './block_diagonal_programs.js';
import {runPackedProgram} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';

export const webglBlockDiagonalKernels = blockDiagonalKernels('webgl', {
  product: ({x, w}, attrs, backend) => {
    const sizes = productSizes({x, w}, attrs);
    const shape = [sizes.batch, sizes.blocks * sizes.outer];
    assertTexturesFit('monarchMatMul', {x: x.shape, w: w.shape, 'a product': shape});
    const program = blockDiagonalProgram({
      ...attrs,
      inputPairs: pairsAreTexels(attrs.input, sizes.inner),
      outputColumns: outputColumns(attrs, sizes),
    });
    const textures = {source: x, weights: w};
    const values = uniformValues(sizes);
    return runPackedProgram(backend as MathBackendWebGL, program, shape, textures, blockDiagonalUniforms, values);
  },
  weights: ({x, dy}, {input, output, blocks}, backend) => {
    const sizes = weightsSizes({x, dy}, {input, output, blocks});
    const shape = [blocks, sizes.outer, sizes.inner];
    assertTexturesFit('monarchMatMul', {x: x.shape, 'the gradient of a product': dy.shape, 'the gradient of w': shape});
    const inputPairs = pairsAreTexels(input, sizes.inner);
    const outputPairs = pairsAreTexels(output, sizes.outer);
    const program = blockDiagonalWeightsProgram({input, inputPairs, output, outputPairs});
    const textures = {source: x, gradients: dy};
    const values = uniformValues(sizes);
    return runPackedProgram(backend as MathBackendWebGL, program, shape, textures, blockDiagonalUniforms, values);
  },
});

/** Whether two rows × two elements of a block are a texel. */
function pairsAreTexels(order: BlockOrder, blockSize: number): boolean {
  return order === 'blocked' && blockSize % 2 === 0;
}

function outputColumns({input, output}: BlockDiagonalMatMulAttrs, {blocks, outer}: BlockDiagonalSizes): OutputColumns {
  if (pairsAreTexels(output, outer)) return 'oneBlock';
  const blocksAreSideBySide = input === 'interleaved' && output === 'interleaved';
  return blocksAreSideBySide && blocks % 2 === 0 ? 'neighbours' : 'apart';
}

function uniformValues(sizes: BlockDiagonalSizes): number[][] {
  return blockDiagonalUniforms.map(({name}) => [sizes[name]]);
}
