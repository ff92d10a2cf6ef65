/** WebGPU kernels of attention's backward pass: row statistics first, then dQ, dK and dV, or one of the biases. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {engine, type KernelFunc, reshape, sum, type Tensor, type TensorInfo, tidy} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionBackwardInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, attentionSizes} from '../attention_sizes.js';
import {attentionParams, attentionVariant} from './attention_params.js';
import {type AttentionVariant, variantKey} from './attention_wgsl.js';
import {type BiasShape, biasGradientShader} from './bias_gradient_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {
  halfKeyValueGradientBytes,
  halfKeyValueGradientShader,
  halfQueryGradientBytes,
  halfQueryGradientShader,
} from './half_gradients_wgsl.js';
import {hasHalfMatrices} from './half_support.js';
import {chooseHalfTile, type HalfTile} from './half_tiles.js';
import {type KeyValueOutputs, keyValueGradientShader} from './key_value_gradient_wgsl.js';
import {cutLiveTilesOf, liveTilesOf} from './live_tiles.js';
import type {TileArea} from './live_tiles_wgsl.js';
import {partialQuads, partSumShader, quadsOfCutRow, SUM_THREADS} from './long_rows_wgsl.js';
import {chooseOuterTile, type OuterTile} from './outer_attention_tiles.js';
import {outerGradientBytes, outerKeyValueGradientShader, outerQueryGradientShader} from './outer_gradients_wgsl.js';
import {queryGradientShader} from './query_gradient_wgsl.js';
import {makeRowStats} from './row_stats.js';
import {scoreGradientBytes} from './score_gradient_wgsl.js';
import type {Shader} from './shader.js';
import {slopesGradientShader} from './slopes_gradient_wgsl.js';
import {planStored, storedShape} from './stored_gradient.js';
import {storedQueryGradientShader} from './stored_gradient_wgsl.js';
import {chooseTile, type TiledKernel, type TileSizes} from './tile_sizes.js';
import {tiledWork} from './tiled_work.js';

/** What all backward kernels of one call work with. `stats` is theirs to dispose. */
interface Backward {
  backend: WebGPUBackend;
  inputs: FlashAttentionBackwardInputs;
  attrs: FlashAttentionAttrs;
  sizes: AttentionSizes;
  variant: AttentionVariant;
  stats: TensorInfo;
  /** Of the kernels that multiply in float16, where these take the call. */
  halfTiles?: HalfTiles;
}

interface HalfTiles {
  query: HalfTile;
  keyValue: HalfTile;
}

type KernelCall = Parameters<KernelFunc>[0];

/** @param mayRound whether what `run` dispatches are kernels that there are in float16 */
function withStats<T>(call: KernelCall, run: (backward: Backward) => T, mayRound = false): T {
  const backend = call.backend as WebGPUBackend;
  const inputs = call.inputs as FlashAttentionBackwardInputs;
  const attrs = call.attrs as unknown as FlashAttentionAttrs;
  const sizes = attentionSizes(inputs, attrs.order);
  const variant = attentionVariant(inputs, attrs, sizes);
  const params = attentionParams(inputs, attrs, sizes, {rowTiles: 0, columnTiles: 0});
  const halfTiles = mayRound ? halfTilesOf(backend, attrs, sizes, variant) : undefined;
  const stats = makeRowStats(backend, inputs, variant, sizes, params, halfTiles !== undefined);
  try {
    return run({backend, inputs, attrs, sizes, variant, stats, halfTiles});
  } finally {
    backend.disposeData(stats.dataId);
  }
}

export const flashAttentionBackward: KernelFunc = (call) =>
  withStats(call, (backward) => makeAllFromStored(backward) ?? [makeDq(backward), ...makeDkDv(backward)], true);

/** The tiles of the kernels that multiply in float16, where the call and the device are for both. */
function halfTilesOf(
  {device}: WebGPUBackend,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
  variant: AttentionVariant,
): HalfTiles | undefined {
  if (attrs.precision !== 'fast' || !hasHalfMatrices(device)) return undefined;
  if (keyValuePasses(device, variant).length > 1) return undefined;
  const queryWork = tiledWork('queryGradient', variant, attrs, sizes);
  const keyWork = tiledWork('keyValueGradient', variant, attrs, sizes);
  const query = chooseHalfTile(device, 'queryGradient', queryWork, halfQueryGradientBytes);
  const keyValue = chooseHalfTile(device, 'keyValueGradient', keyWork, halfKeyValueGradientBytes);
  return query && keyValue && {query, keyValue};
}

/** Makes dQ from dS, which the kernel for dK and dV passes on, group by group of matrices; undefined where it does not. */
function makeAllFromStored(backward: Backward): TensorInfo[] | undefined {
  const {backend, inputs, attrs, sizes, variant, stats, halfTiles} = backward;
  if (halfTiles || keyValueBuffers(variant) + 1 > backend.device.limits.maxStorageBuffersPerShaderStage)
    return undefined;
  const tile = outerTileOf(backend, 'keyValueGradient', variant, attrs, sizes);
  const plan = tile && planStored(backend.device, tile, inputs, attrs, sizes);
  if (!plan) return undefined;
  const {tiles: stored, groups} = plan;
  const [dq, dk, dv] = [inputs.q, inputs.k, inputs.v].map(({shape}) => backend.makeTensorInfo(shape, 'float32'));
  const scoreGradients = backend.makeTensorInfo([groups[0].count, ...storedShape(tile, sizes, stored)], 'float32');
  const tensors = {...inputs, stats, scoreGradients, dq, dk, dv};
  const groupSize = sizes.heads / sizes.keyHeads;
  const {down: keyTiles, across: queryTiles} = stored;
  const ofShape = `${stored.shape} ${variantKey(variant)} ${JSON.stringify(tile)}`;
  for (const group of groups) {
    dispatch(backend, {
      key: `attention dK dV and dS ${ofShape}`,
      makeShader: () => outerKeyValueGradientShader(variant, tile, {dk: true, dv: true}, {stores: stored.shape}),
      tensors,
      uniforms: attentionParams(inputs, attrs, sizes, {rowTiles: keyTiles, columnTiles: 0, group, stored}),
      workgroups: keyTiles * group.count,
    });
    const heads = {first: group.first * groupSize, count: group.count * groupSize};
    dispatch(backend, {
      key: `attention dQ of dS ${ofShape}`,
      makeShader: () => storedQueryGradientShader(variant, tile, stored.shape),
      tensors,
      uniforms: attentionParams(inputs, attrs, sizes, {rowTiles: queryTiles, columnTiles: 0, group: heads, stored}),
      workgroups: queryTiles * heads.count,
    });
  }
  backend.disposeData(scoreGradients.dataId);
  return [dq, dk, dv];
}

function makeDq(backward: Backward): TensorInfo {
  const {backend, inputs, attrs, sizes, stats, variant} = backward;
  const {tile, makeShader} = queryGradientOn(backward);
  const rowTiles = Math.ceil(sizes.queries / tile.rows);
  const dq = backend.makeTensorInfo(inputs.q.shape, 'float32');
  dispatch(backend, {
    key: `attention dQ ${variantKey(variant)} ${JSON.stringify(tile)}`,
    makeShader,
    tensors: {...inputs, stats, liveTiles: liveTilesOf(backend, attrs, sizes, 'queries', tile), dq},
    uniforms: attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles: 0}),
    workgroups: rowTiles * sizes.batch * sizes.heads,
  });
  return dq;
}

/** The kernel that a device takes for dQ, and its tile. */
function queryGradientOn({backend, variant, attrs, sizes, halfTiles}: Backward) {
  const halfTile = halfTiles?.query;
  if (halfTile) return {tile: halfTile, makeShader: () => halfQueryGradientShader(variant, halfTile)};
  const outerTile = outerTileOf(backend, 'queryGradient', variant, attrs, sizes);
  if (outerTile) return {tile: outerTile, makeShader: () => outerQueryGradientShader(variant, outerTile)};
  const tile = tileOf(backend, 'queryGradient', variant);
  return {tile, makeShader: () => queryGradientShader(variant, tile)};
}

function makeDkDv(backward: Backward): [TensorInfo, TensorInfo] {
  const {backend, inputs, attrs, sizes, variant, stats} = backward;
  const dk = backend.makeTensorInfo(inputs.k.shape, 'float32');
  const dv = backend.makeTensorInfo(inputs.v.shape, 'float32');
  if (makeDkDvInParts(backward, dk, dv)) return [dk, dv];
  const {tile, makeShader} = keyValueGradientOn(backward);
  const rowTiles = Math.ceil(sizes.keys / tile.rows);
  for (const outputs of keyValuePasses(backend.device, variant)) {
    dispatch(backend, {
      key: `attention dK dV ${JSON.stringify(outputs)} ${variantKey(variant)} ${JSON.stringify(tile)}`,
      makeShader: () => makeShader(outputs),
      tensors: {...inputs, stats, liveTiles: liveTilesOf(backend, attrs, sizes, 'keys', tile), dk, dv},
      uniforms: attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles: 0}),
      workgroups: rowTiles * sizes.batch * sizes.keyHeads,
    });
  }
  return [dk, dv];
}

/** Makes dK and dV in the parts of long rows of tiles, where a layout has such rows; false where it has none. */
function makeDkDvInParts(backward: Backward, dk: TensorInfo, dv: TensorInfo): boolean {
  const {backend, inputs, attrs, sizes, variant, stats, halfTiles} = backward;
  if (halfTiles || keyValueBuffers(variant) + 1 > backend.device.limits.maxStorageBuffersPerShaderStage) return false;
  const tile = outerTileOf(backend, 'keyValueGradient', variant, attrs, sizes);
  const long = tile && cutLiveTilesOf(backend, attrs, sizes, 'keys', tile);
  if (!long) return false;
  const {cut, liveTiles} = long;
  const matrices = sizes.batch * sizes.keyHeads;
  const shape = [matrices, cut.slots, tile.rows, 4 * partialQuads(variant)];
  assertBufferFits(backend.device, 'flashAttention', 'what parts of long rows of a layout have', shape);
  const partial = backend.makeTensorInfo(shape, 'float32');
  const uniforms = attentionParams(inputs, attrs, sizes, {
    rowTiles: Math.ceil(sizes.keys / tile.rows),
    columnTiles: 0,
    cut,
  });
  dispatch(backend, {
    key: `attention dK dV in parts ${variantKey(variant)} ${JSON.stringify(tile)}`,
    makeShader: () => outerKeyValueGradientShader(variant, tile, {dk: true, dv: true}, 'cut'),
    tensors: {...inputs, stats, liveTiles, dk, dv, partial},
    uniforms,
    workgroups: matrices * cut.turns,
  });
  dispatch(backend, {
    key: `attention dK dV sums of parts ${variantKey(variant)} ${JSON.stringify(tile)}`,
    makeShader: () => partSumShader(variant, tile),
    tensors: {liveTiles, partial, dk, dv},
    uniforms,
    workgroups: Math.ceil((matrices * cut.rows * quadsOfCutRow(variant, tile)) / SUM_THREADS),
  });
  backend.disposeData(partial.dataId);
  return true;
}

/** The same for dK and dV; float16 needs both at once. */
function keyValueGradientOn({backend, variant, attrs, sizes, halfTiles}: Backward): {
  tile: TileArea;
  makeShader: (outputs: KeyValueOutputs) => Shader;
} {
  const halfTile = halfTiles?.keyValue;
  if (halfTile) return {tile: halfTile, makeShader: () => halfKeyValueGradientShader(variant, halfTile)};
  const outerTile = outerTileOf(backend, 'keyValueGradient', variant, attrs, sizes);
  if (outerTile)
    return {tile: outerTile, makeShader: (outputs) => outerKeyValueGradientShader(variant, outerTile, outputs)};
  const tile = tileOf(backend, 'keyValueGradient', variant);
  return {tile, makeShader: (outputs) => keyValueGradientShader(variant, tile, outputs)};
}

/** q, k, v, dOutput, stats, dk and dv leave room for one more in the default 8 buffers: bias, mask or a layout. */
function keyValueBuffers(variant: AttentionVariant): number {
  return 7 + Number(variant.bias) + Number(variant.mask) + Number(variant.layout !== undefined);
}

/** Both gradients at once, where the device binds so many buffers. */
function keyValuePasses(device: GPUDevice, variant: AttentionVariant): KeyValueOutputs[] {
  if (keyValueBuffers(variant) <= device.limits.maxStorageBuffersPerShaderStage) return [{dk: true, dv: true}];
  return [
    {dk: true, dv: false},
    {dk: false, dv: true},
  ];
}

export const flashAttentionBiasBackward: KernelFunc = (call) =>
  withStats(call, (backward) => {
    const bias = backward.inputs.bias as TensorInfo;
    const [sharedByBatches, sharedByHeads, sharedByQueries, sharedByKeys] = bias.shape.map((size) => size === 1);
    return makeBiasGradient(backward, {sharedByBatches, sharedByHeads, sharedByQueries, sharedByKeys}, bias.shape);
  });

export const flashAttentionSlopesBackward: KernelFunc = (call) =>
  withStats(call, ({backend, inputs, attrs, sizes, variant, stats}) => {
    const slopes = inputs.alibiSlopes as TensorInfo;
    const tile = tileOf(backend, 'queryGradient', variant);
    const rowTiles = Math.ceil(sizes.queries / tile.rows);
    const shares = backend.makeTensorInfo([sizes.batch, sizes.heads, rowTiles], 'float32');
    dispatch(backend, {
      key: `attention dSlopes ${variantKey(variant)} ${JSON.stringify(tile)}`,
      makeShader: () => slopesGradientShader(variant, tile),
      tensors: {...inputs, stats, liveTiles: liveTilesOf(backend, attrs, sizes, 'queries', tile), dSlopes: shares},
      uniforms: attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles: 0}),
      workgroups: sizes.batch * sizes.heads * rowTiles,
    });
    return tidy(() => {
      const sharesTensor = engine().makeTensorFromTensorInfo(shares);
      return reshape(sum(sharesTensor, slopes.shape[0] === 1 ? [0, 2] : [2]), slopes.shape);
    });
  });

function makeBiasGradient(
  {backend, inputs, attrs, sizes, variant, stats}: Backward,
  shape: BiasShape,
  outputShape: number[],
): TensorInfo {
  const tile = tileOf(backend, 'biasGradient', variant);
  const rowTiles = Math.ceil(sizes.queries / tile.rows);
  const columnTiles = Math.ceil(sizes.keys / tile.columns);
  const slices = (shape.sharedByBatches ? 1 : sizes.batch) * (shape.sharedByHeads ? 1 : sizes.heads);
  const partialShape = [
    slices,
    shape.sharedByQueries ? rowTiles : sizes.queries,
    shape.sharedByKeys ? columnTiles : sizes.keys,
  ];
  assertBufferFits(backend.device, 'flashAttention', 'the gradient of the bias, summed tile by tile,', partialShape);
  const partial = backend.makeTensorInfo(partialShape, 'float32');
  dispatch(backend, {
    key: `attention bias gradient ${JSON.stringify(shape)} ${variantKey(variant)} ${JSON.stringify(tile)}`,
    makeShader: () => biasGradientShader(variant, tile, shape),
    tensors: {...inputs, stats, liveTiles: liveTilesOf(backend, attrs, sizes, 'queries', tile), dBias: partial},
    uniforms: attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles}),
    workgroups: slices * rowTiles * columnTiles,
  });
  const axes = [...(shape.sharedByQueries ? [1] : []), ...(shape.sharedByKeys ? [2] : [])];
  return tidy(() => {
    const partialTensor = engine().makeTensorFromTensorInfo(partial);
    const total: Tensor = axes.length > 0 ? sum(partialTensor, axes) : partialTensor;
    return reshape(total, outputShape);
  });
}

/** The tile of the kernel for devices with wide SIMD groups, where the device is one. */
function outerTileOf(
  {device}: WebGPUBackend,
  kernel: 'queryGradient' | 'keyValueGradient',
  variant: AttentionVariant,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
): OuterTile | undefined {
  const work = tiledWork(kernel, variant, attrs, sizes);
  return chooseOuterTile(device, kernel, work, (tile) => outerGradientBytes(variant, tile));
}

function tileOf(backend: WebGPUBackend, kernel: TiledKernel, variant: AttentionVariant): TileSizes {
  return chooseTile(backend.device, kernel, [variant.depth, variant.valueDepth], (tile) =>
    scoreGradientBytes(variant, tile),
  );
}
