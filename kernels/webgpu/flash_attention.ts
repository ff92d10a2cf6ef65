/** WebGPU kernel of attention's forward pass, and the list of all attention kernels of this backend. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {KernelFunc, TensorInfo} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {attentionKernels} from '../attention_kernels.js';
import {attentionSizes, shapeInOrder} from '../attention_sizes.js';
import {attentionParams, attentionVariant} from './attention_params.js';
import {variantKey} from './attention_wgsl.js';
import {assertBuffersFit} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {
  flashAttentionBackward,
  flashAttentionBiasBackward,
  flashAttentionSlopesBackward,
} from './flash_attention_backward.js';
import {forwardShader, forwardWorkgroupBytes} from './forward_wgsl.js';
import {makeHeadTable} from './head_table.js';
import {liveTilesOf, summedToBias, withinBindings} from './live_tiles.js';
import {chooseTile} from './tile_sizes.js';

const flashAttention: KernelFunc = (call) => {
  const backend = call.backend as WebGPUBackend;
  const inputs = call.inputs as FlashAttentionInputs;
  const attrs = call.attrs as unknown as FlashAttentionAttrs;
  const sizes = attentionSizes(inputs, attrs.order);
  assertBuffersFit(backend.device, inputs, sizes);
  const {batch, heads, queries, valueDepth} = sizes;
  const variant = attentionVariant(inputs, attrs, sizes);
  const tile = chooseTile(backend.device, 'forward', [sizes.depth, valueDepth], (candidate) =>
    forwardWorkgroupBytes(variant, candidate),
  );
  const rowTiles = Math.ceil(queries / tile.rows);
  const params = attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles: 0});

  const table = makeHeadTable(backend, inputs, sizes, params);
  const output = backend.makeTensorInfo(shapeInOrder(attrs.order, batch, heads, queries, valueDepth), 'float32');
  const softmaxStats = backend.makeTensorInfo([batch, heads, queries, 2], 'float32');
  dispatch(backend, {
    key: `attention forward ${variantKey(variant)} ${JSON.stringify(tile)}`,
    makeShader: () => forwardShader(variant, tile),
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
  return [output, softmaxStats] as TensorInfo[];
};

export const webgpuKernels = attentionKernels('webgpu', {
  forward: withinBindings(flashAttention),
  backward: withinBindings(flashAttentionBackward),
  biasBackward: summedToBias(withinBindings(flashAttentionBiasBackward)),
  slopesBackward: withinBindings(flashAttentionSlopesBackward),
});
