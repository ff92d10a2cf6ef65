/** The WebGPU kernels of products with block-diagonal matrices. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {type TensorInfo, util} from '@tensorflow/tfjs-core';
import type {BlockOrder} from '../../src/kernel_names.js';
import {blockDiagonalKernels} from '../block_diagonal_kernels.js';
import {type BlockDiagonalSizes, productSizes, weightsSizes} from '../block_diagonal_sizes.js';
import {
  type BlockDiagonalVariant,
  blockDiagonalBackwardShader,
  blockDiagonalShader,
  blockDiagonalWeightsShader,
} from './block_diagonal_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import type {Shader} from './shader.js';
import {chooseDenseProductTile, denseProductTiles, type ProductTile} from './tile_sizes.js';

export const webgpuBlockDiagonalKernels = blockDiagonalKernels('webgpu', {
  product: ({x, w}, attrs, kernelBackend) => {
    const backend = kernelBackend as WebGPUBackend;
    const sizes = productSizes({x, w}, attrs);
    const {batch, blocks, outer} = sizes;
    const out = makeOutput(backend, {x, w}, [batch, blocks * outer]);
    const variant = {...attrs, vectorized: vectorized(sizes, attrs, w.shape[2])};
    multiplyBlocks(backend, sizes, {
      key: `product ${JSON.stringify(variant)}`,
      makeShader: (tile) => blockDiagonalShader(variant, tile),
      matrices: [[batch, outer]],
      tensors: {x, w, out},
    });
    return out;
  },
  weights: ({x, dy}, attrs, kernelBackend) => {
    const backend = kernelBackend as WebGPUBackend;
    const sizes = weightsSizes({x, dy}, attrs);
    const {blocks, inner, outer} = sizes;
    const dw = makeOutput(backend, {x, dy}, [blocks, outer, inner]);
    const {input, output} = attrs;
    const variant = {input, output, vectorized: vectorized(sizes, attrs, inner)};
    multiplyBlocks(backend, sizes, {
      key: `weights ${JSON.stringify(variant)}`,
      makeShader: (tile) => blockDiagonalWeightsShader(variant, tile),
      matrices: [[outer, inner]],
      tensors: {x, dy, dw},
    });
    return dw;
  },
  backward: ({x, w, dy}, attrs, kernelBackend) => {
    const backend = kernelBackend as WebGPUBackend;
    const sizes = productSizes({x, w}, attrs);
    const [dx, dw] = [x, w].map(({shape}) => makeOutput(backend, {x, w, dy}, shape));
    const [, rows, columns] = w.shape;
    const variant = {...attrs, vectorized: vectorized(sizes, attrs, columns)};
    multiplyBlocks(backend, sizes, {
      key: `backward ${JSON.stringify(variant)}`,
      makeShader: (tile) => blockDiagonalBackwardShader(variant, tile),
      matrices: [
        [sizes.batch, sizes.inner],
        [rows, columns],
      ],
      tensors: {x, w, dy, dx, dw},
    });
    return [dx, dw];
  },
});

/** What there is to do in each block. */
interface BlockProducts {
  /** Identifies the shader but for its tile. */
  key: string;
  makeShader: (tile: ProductTile) => Shader;
  /** Rows and columns of each matrix that is made. */
  matrices: [number, number][];
  tensors: Record<string, TensorInfo>;
}

function multiplyBlocks(
  backend: WebGPUBackend,
  sizes: BlockDiagonalSizes,
  {key, makeShader, matrices, tensors}: BlockProducts,
): void {
  const {blocks} = sizes;
  const tile = chooseDenseProductTile(backend.device, matrices, blocks);
  dispatch(backend, {
    key: `block-diagonal ${key} ${JSON.stringify(tile)}`,
    makeShader: () => makeShader(tile),
    tensors,
    uniforms: blockDiagonalParams(sizes),
    workgroups: util.sum(matrices.map((matrix) => blocks * denseProductTiles(tile, matrix))),
  });
}

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
