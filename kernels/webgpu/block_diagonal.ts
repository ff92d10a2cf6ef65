/** The WebGPU kernels of products with block-diagonal matrices. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {BlockOrder} from '../../src/kernel_names.js';
import {blockDiagonalKernels} from '../block_diagonal_kernels.js';
import {type BlockDiagonalSizes, productSizes, weightsSizes} from '../block_diagonal_sizes.js';
import {type BlockDiagonalVariant, blockDiagonalShader, blockDiagonalWeightsShader} from './block_diagonal_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {chooseDenseProductTile} from './tile_sizes.js';

export const webgpuBlockDiagonalKernels = blockDiagonalKernels('webgpu', {
  product: ({x, w}, attrs, backend) => {
    const sizes = productSizes({x, w}, attrs);
    const {batch, blocks, outer} = sizes;
    const out = makeOutput(backend as WebGPUBackend, {x, w}, [batch, blocks * outer]);
    const variant = {...attrs, vectorized: vectorized(sizes, attrs, attrs.transpose ? outer : sizes.inner)};
    const tile = chooseDenseProductTile((backend as WebGPUBackend).device, batch, outer, blocks);
    dispatch(backend as WebGPUBackend, {
      key: `block-diagonal product ${JSON.stringify([variant, tile])}`,
      makeShader: () => blockDiagonalShader(variant, tile),
      tensors: {left: x, right: w, out},
      uniforms: blockDiagonalParams(sizes),
      workgroups: blocks * Math.ceil(outer / tile.columns) * Math.ceil(batch / tile.rows),
    });
    return out;
  },
  weights: ({x, dy}, attrs, backend) => {
    const sizes = weightsSizes({x, dy}, attrs);
    const {blocks, inner, outer} = sizes;
    const out = makeOutput(backend as WebGPUBackend, {x, dy}, [blocks, outer, inner]);
    const {input, output} = attrs;
    const variant = {input, output, vectorized: vectorized(sizes, attrs, inner)};
    const tile = chooseDenseProductTile((backend as WebGPUBackend).device, outer, inner, blocks);
    dispatch(backend as WebGPUBackend, {
      key: `block-diagonal weights ${JSON.stringify([variant, tile])}`,
      makeShader: () => blockDiagonalWeightsShader(variant, tile),
      tensors: {left: dy, right: x, out},
      uniforms: blockDiagonalParams(sizes),
      workgroups: blocks * Math.ceil(outer / tile.rows) * Math.ceil(inner / tile.columns),
    });
    return out;
  },
});

function makeOutput(backend: WebGPUBackend, inputs: Record<string, TensorInfo>, shape: number[]): TensorInfo {
  for (const [name, {shape}] of Object.entries(inputs)) assertBufferFits(backend.device, 'monarchMatMul', name, shape);
  assertBufferFits(backend.device, 'monarchMatMul', 'a product', shape);
  return backend.makeTensorInfo(shape, 'float32');
}

/** Elements that stand side by side can be read four at a time where blocks, and rows of weights, are whole fours. */
function vectorized(
  {inner, outer}: BlockDiagonalSizes,
  {input, output}: {input: BlockOrder; output: BlockOrder},
  weightColumns: number,
): BlockDiagonalVariant['vectorized'] {
  return {
    input: input === 'blocked' && inner % 4 === 0,
    output: output === 'blocked' && outer % 4 === 0,
    weights: weightColumns % 4 === 0,
  };
}

/** Fills the struct Params of block_diagonal_wgsl.ts, field by field. */
function blockDiagonalParams({batch, blocks, inner, outer}: BlockDiagonalSizes): ArrayBuffer {
  return Uint32Array.of(batch, blocks, inner, outer).buffer;
}
