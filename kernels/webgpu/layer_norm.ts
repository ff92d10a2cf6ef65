/** The WebGPU kernels of layer normalization: one dispatch forward, one for dx, one or two for the gradients of the weights. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {type LayerNormSizes, layerNormKernels, layerNormSizes, rowStatsShape} from '../layer_norm_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {
  type LayerNormVariant,
  layerNormBackwardShader,
  layerNormChunksShader,
  layerNormShader,
  layerNormWeightsShader,
  rowsAbreast,
  rowsPerWorkgroup,
} from './layer_norm_wgsl.js';
import type {Shader} from './shader.js';

/** Lanes of a row: as many as a workgroup may have by the default limits, but each with a few units, if a row has so many. */
const MOST_ROW_LANES = 256;
const UNITS_PER_LANE = 4;

/** Lanes of sums down columns: 1 KiB of a row, and less of the few rows that partial sums are. */
const COLUMN_LANES = 64;
const CHUNK_LANES = 16;

/** Partial sums are made by as many workgroups as employ a large GPU, each going so many steps down the rows at least. */
const COLUMN_WORKGROUPS = 512;
const LEAST_STEPS = 8;

export const webgpuLayerNormKernels = layerNormKernels('webgpu', {
  forward({x, gamma, beta}, {epsilon}, kernelBackend) {
    const backend = kernelBackend as WebGPUBackend;
    assertBufferFits(backend.device, 'layerNorm', 'x', x.shape);
    const y = backend.makeTensorInfo(x.shape, 'float32');
    const rowStats = backend.makeTensorInfo(rowStatsShape(x), 'float32');
    overRows(backend, 'layer norm', layerNormShader, layerNormSizes(x), {x, gamma, beta, y, rowStats}, epsilon);
    return [y, rowStats];
  },
  backward(inputs, kernelBackend) {
    const backend = kernelBackend as WebGPUBackend;
    const {x} = inputs;
    const dx = backend.makeTensorInfo(x.shape, 'float32');
    overRows(backend, 'layer norm backward', layerNormBackwardShader, layerNormSizes(x), {...inputs, dx});
    return dx;
  },
  weightsBackward(inputs, kernelBackend) {
    const backend = kernelBackend as WebGPUBackend;
    const sizes = layerNormSizes(inputs.x);
    const chunks = chunksOf(sizes);
    const sums = sumColumns(backend, 'layer norm weights', layerNormWeightsShader, {
      sizes,
      chunks,
      lanes: COLUMN_LANES,
      tensors: {...inputs},
    });
    if (chunks === 1) return sums;
    const [chunksOfGamma, chunksOfBeta] = sums;
    const total = sumColumns(backend, 'layer norm chunks', layerNormChunksShader, {
      sizes: {...sizes, rows: chunks},
      chunks: 1,
      lanes: CHUNK_LANES,
      tensors: {chunksOfGamma, chunksOfBeta},
    });
    for (const {dataId} of sums) backend.disposeData(dataId);
    return total;
  },
});

type MakeShader = (variant: LayerNormVariant) => Shader;

function overRows(
  backend: WebGPUBackend,
  name: string,
  makeShader: MakeShader,
  sizes: LayerNormSizes,
  tensors: Record<string, TensorInfo>,
  epsilon = 0,
): void {
  const variant = makeVariant(sizes, MOST_ROW_LANES, UNITS_PER_LANE);
  dispatch(backend, {
    key: `${name} ${JSON.stringify(variant)}`,
    makeShader: () => makeShader(variant),
    tensors,
    uniforms: layerNormParams(sizes, variant, {epsilon}),
    workgroups: Math.ceil(sizes.rows / rowsPerWorkgroup(variant)),
  });
}

interface ColumnSums {
  sizes: LayerNormSizes;
  /** Into how many chunks the rows are divided. */
  chunks: number;
  /** The most lanes that a workgroup has. */
  lanes: number;
  /** The inputs. */
  tensors: Record<string, TensorInfo>;
}

/** Makes dGamma and dBeta: [W], or [chunks, W] where there are several. */
function sumColumns(
  backend: WebGPUBackend,
  name: string,
  makeShader: MakeShader,
  {sizes, chunks, lanes, tensors}: ColumnSums,
): [TensorInfo, TensorInfo] {
  const variant = makeVariant(sizes, lanes, 1);
  const shape = chunks === 1 ? [sizes.width] : [chunks, sizes.width];
  const dGamma = backend.makeTensorInfo(shape, 'float32');
  const dBeta = backend.makeTensorInfo(shape, 'float32');
  dispatch(backend, {
    key: `${name} ${JSON.stringify(variant)}`,
    makeShader: () => makeShader(variant),
    tensors: {...tensors, dGamma, dBeta},
    uniforms: layerNormParams(sizes, variant, {chunks}),
    workgroups: chunks * stripesOf(sizes, variant),
  });
  return [dGamma, dBeta];
}

function chunksOf(sizes: LayerNormSizes): number {
  const variant = makeVariant(sizes, COLUMN_LANES, 1);
  const wanted = Math.ceil(COLUMN_WORKGROUPS / stripesOf(sizes, variant));
  return Math.min(wanted, Math.ceil(sizes.rows / (rowsAbreast(variant) * LEAST_STEPS)));
}

function makeVariant(sizes: LayerNormSizes, mostLanes: number, unitsPerLane: number): LayerNormVariant {
  const vectorized = sizes.width % 4 === 0;
  const units = unitsOf(sizes, {vectorized});
  const lanes = 2 ** Math.ceil(Math.log2(Math.ceil(units / unitsPerLane)));
  return {vectorized, lanes: Math.min(mostLanes, lanes)};
}

function unitsOf({width}: LayerNormSizes, {vectorized}: Pick<LayerNormVariant, 'vectorized'>): number {
  return vectorized ? width / 4 : width;
}

/** How many workgroups stand side by side along a row. */
function stripesOf(sizes: LayerNormSizes, variant: LayerNormVariant): number {
  return Math.ceil(unitsOf(sizes, variant) / variant.lanes);
}

/** Fills the struct Params of layer_norm_wgsl.ts, field by field. */
function layerNormParams(
  sizes: LayerNormSizes,
  variant: LayerNormVariant,
  {epsilon = 0, chunks = 1}: {epsilon?: number; chunks?: number},
): ArrayBuffer {
  const params = new DataView(new ArrayBuffer(24));
  params.setUint32(0, sizes.rows, true);
  params.setUint32(4, unitsOf(sizes, variant), true);
  params.setFloat32(8, sizes.width, true);
  params.setFloat32(12, epsilon, true);
  params.setUint32(16, Math.ceil(sizes.rows / chunks), true);
  params.setUint32(20, chunks, true);
  return params.buffer;
}
