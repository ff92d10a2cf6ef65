/** WebGPU kernel of attention's forward pass, and the list of all attention kernels of this backend. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {KernelFunc, TensorInfo} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {attentionKernels} from '../attention_kernels.js';
import {type AttentionSizes, attentionSizes} from '../attention_sizes.js';
import {attentionParams, attentionVariant} from './attention_params.js';
import {type AttentionVariant, variantKey} from './attention_wgsl.js';
import {assertBuffersFit} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {attendFewQueries} from './few_queries.js';
import {planFewQueries} from './few_queries_tiles.js';
import {fewQueriesBytes} from './few_queries_wgsl.js';
import {
  flashAttentionBackward,
  flashAttentionBiasBackward,
  flashAttentionSlopesBackward,
} from './flash_attention_backward.js';
import {type ForwardCall, makeForwardResults} from './forward_call.js';
import {forwardShader, forwardWorkgroupBytes} from './forward_wgsl.js';
import {halfForwardBytes, halfForwardShader} from './half_forward_wgsl.js';
import {hasHalfMatrices} from './half_support.js';
import {chooseHalfTile} from './half_tiles.js';
import {makeHeadTable} from './head_table.js';
import {liveTilesOf, summedToBias, withinBindings} from './live_tiles.js';
import {chooseOuterTile} from './outer_attention_tiles.js';
import {outerForwardBytes, outerForwardShader} from './outer_forward_wgsl.js';
import {chooseTile} from './tile_sizes.js';
import {tiledWork} from './tiled_work.js';

const flashAttention: KernelFunc = (kernelCall) => {
  const backend = kernelCall.backend as WebGPUBackend;
  const inputs = kernelCall.inputs as FlashAttentionInputs;
  const attrs = kernelCall.attrs as unknown as FlashAttentionAttrs;
  const sizes = attentionSizes(inputs, attrs.order);
  assertBuffersFit(backend.device, inputs, sizes);
  const call = {inputs, attrs, sizes, variant: attentionVariant(inputs, attrs, sizes)};
  const plan = planFewQueries(backend.device, attrs, sizes, fewQueriesBytes);
  return plan ? attendFewQueries(backend, call, plan) : attendInTiles(backend, call);
};

function attendInTiles(backend: WebGPUBackend, call: ForwardCall): TensorInfo[] {
  const {inputs, attrs, sizes, variant} = call;
  const {batch, heads, queries} = sizes;
  const {tile, makeShader} = forwardOn(backend.device, variant, attrs, sizes);
  const rowTiles = Math.ceil(queries / tile.rows);
  const params = attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles: 0});

  const table = makeHeadTable(backend, inputs, sizes, params);
  const {output, softmaxStats} = makeForwardResults(backend, call);
  dispatch(backend, {
    key: `attention forward ${variantKey(variant)} ${JSON.stringify(tile)}`,
    makeShader,
    tensors: {
      ...inputs,
      heads: table,
      liveTiles: liveTilesOf(backend, attrs, sizes, 'queries', tile),
      output,
      softmaxStats,
    },
    uniforms: params,
    workgroups: rowTiles * batch * heads,
  });
  if (table) backend.disposeData(table.dataId);
  return [output, softmaxStats];
}

/** The kernel that a device takes, and its tile. */
function forwardOn(device: GPUDevice, variant: AttentionVariant, attrs: FlashAttentionAttrs, sizes: AttentionSizes) {
  const work = tiledWork('forward', variant, attrs, sizes);
  const mayRound = attrs.precision === 'fast' && hasHalfMatrices(device);
  const halfTile = mayRound ? chooseHalfTile(device, 'forward', work, halfForwardBytes) : undefined;
  if (halfTile) return {tile: halfTile, makeShader: () => halfForwardShader(variant, halfTile)};
  const outerTile = chooseOuterTile(device, 'forward', work, (tile) => outerForwardBytes(variant, tile));
  if (outerTile) return {tile: outerTile, makeShader: () => outerForwardShader(variant, outerTile)};
  const tile = chooseTile(device, 'forward', [sizes.depth, sizes.valueDepth], (candidate) =>
    forwardWorkgroupBytes(variant, candidate),
  );
  return {tile, makeShader: () => forwardShader(variant, tile)};
}

export const webgpuKernels = attentionKernels('webgpu', {
  forward: withinBindings(flashAttention),
  backward: withinBindings(flashAttentionBackward),
  biasBackward: summedToBias(withinBindings(flashAttentionBiasBackward)),
  slopesBackward: withinBindings(flashAttentionSlopesBackward),
});
