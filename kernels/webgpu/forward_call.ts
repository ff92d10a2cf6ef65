/** One call of attention's forward pass, as the kernels that may take it get it, and the tensors that it fills. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, shapeInOrder} from '../attention_sizes.js';
import type {AttentionVariant} from './attention_wgsl.js';

export interface ForwardCall {
  inputs: FlashAttentionInputs;
  attrs: FlashAttentionAttrs;
  sizes: AttentionSizes;
  variant: AttentionVariant;
}

/** Made last, when nothing is left that could throw. */
export function makeForwardResults(
  backend: WebGPUBackend,
  {attrs: {order}, sizes: {batch, heads, queries, valueDepth}}: ForwardCall,
): {output: TensorInfo; softmaxStats: TensorInfo} {
  return {
    output: backend.makeTensorInfo(shapeInOrder(order, batch, heads, queries, valueDepth), 'float32'),
    softmaxStats: backend.makeTensorInfo([batch, heads, queries, 2], 'float32'),
  };
}
