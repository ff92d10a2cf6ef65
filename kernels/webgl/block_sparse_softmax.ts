/** The WebGL kernels of the softmax over live blocks. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {env, type KernelConfig, type TensorInfo} from '@tensorflow/tfjs-core';
import {
  BlockSparseSoftmax,
  type BlockSparseSoftmaxAttrs,
  BlockSparseSoftmaxBackward,
  type BlockSparseSoftmaxBackwardAttrs,
  type BlockSparseSoftmaxBackwardInputs,
  type BlockSparseSoftmaxInputs,
} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {
  softmaxBackwardProgram,
  softmaxBackwardRowProgram,
  softmaxProgram,
  softmaxRowProgram,
  softmaxUniforms,
} from './block_sparse_softmax_programs.js';
import {places, walkIndices} from './index_textures.js';
import {type PackedProgram, runPackedProgram, type Textures} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';

export const webglBlockSparseSoftmaxKernels: KernelConfig[] = [
  {
    kernelName: BlockSparseSoftmax,
    backendName: 'webgl',
    kernelFunc: (call) => {
      const {values} = call.inputs as BlockSparseSoftmaxInputs;
      const {layout, scale, causal} = call.attrs as unknown as BlockSparseSoftmaxAttrs;
      const programs = {rows: softmaxRowProgram(causal), elements: softmaxProgram(causal)};
      return byRows(call.backend as MathBackendWebGL, programs, {values}, values.shape, layout, scale);
    },
  },
  {
    kernelName: BlockSparseSoftmaxBackward,
    backendName: 'webgl',
    kernelFunc: (call) => {
      const inputs = call.inputs as BlockSparseSoftmaxBackwardInputs;
      const {layout} = call.attrs as unknown as BlockSparseSoftmaxBackwardAttrs;
      const programs = {rows: softmaxBackwardRowProgram(), elements: softmaxBackwardProgram()};
      return byRows(call.backend as MathBackendWebGL, programs, inputs, inputs.probabilities.shape, layout, 1);
    },
  },
];

/** Runs the program that makes statistics of the rows, and with them the one that makes the elements, [batch, nnz, ·, ·]. */
function byRows(
  backend: MathBackendWebGL,
  programs: {rows: PackedProgram; elements: PackedProgram},
  inputs: Textures,
  shape: number[],
  layout: BlockLayout,
  scale: number,
): TensorInfo {
  const {heads, rowBlocks, blockSize} = layout;
  const rowShape = [shape[0] * heads * rowBlocks, blockSize[0], 2];
  assertTexturesFit('blockSparseSoftmax', {values: shape, 'the statistics of rows': rowShape});
  const values = uniformValues(layout, shape[0], scale);
  const textures = {...inputs, offsets: walkIndices(backend, layout, false).offsets, places: places(backend, layout)};
  const rows = runPackedProgram(backend, programs.rows, rowShape, textures, softmaxUniforms, values);
  const elements = runPackedProgram(backend, programs.elements, shape, {...textures, rows}, softmaxUniforms, values);
  backend.disposeIntermediateTensorInfo(rows);
  return elements;
}

function uniformValues(layout: BlockLayout, batch: number, scale: number): number[][] {
  const {heads, rowBlocks, nnz, blockSize, shape} = layout;
  const values = {
    batch,
    lists: heads * rowBlocks,
    rowBlocks,
    nnz,
    rowSize: blockSize[0],
    colSize: blockSize[1],
    diagonal: shape[1] - shape[0],
    scale,
    // Half-float textures end at 65504.
    hiddenScore: env().getBool('WEBGL_RENDER_FLOAT32_ENABLED') ? -3e38 : -6e4,
  };
  return softmaxUniforms.map(({name}) => [values[name]]);
}
