/** Whether what attention needs fits into textures, before any of them is made. */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {env} from '@tensorflow/tfjs-core';
import type {FlashAttentionInputs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {largestTexture} from './key_chunks.js';

/** Throws an error that names the tensor and its shape if one does not fit. */
export function assertTexturesFit(inputs: FlashAttentionInputs, sizes: AttentionSizes): void {
  const {batch, heads, queries, valueDepth} = sizes;
  const {q, k, v, bias, mask} = inputs;
  for (const [name, tensor] of Object.entries({q, k, v, bias, mask})) if (tensor) assertFits(name, tensor.shape);
  assertFits('output', [batch, heads, queries, valueDepth]);
  // The smallest chunk there is holds two keys.
  assertFits('the scores of q with two keys', [batch * heads, queries, 2]);
}

function assertFits(name: string, shape: TensorInfo['shape']): void {
  const rows = shape[shape.length - 2];
  const columns = shape[shape.length - 1];
  const matrices = shape.slice(0, -2).reduce((product, size) => product * size, 1);
  const texels = matrices * Math.ceil(rows / 2) * Math.ceil(columns / 2);
  if (texels <= largestTexture()) return;
  const side = env().getNumber('WEBGL_MAX_TEXTURE_SIZE');
  throw new Error(
    `flashAttention: ${name} of shape [${shape}] needs ${texels} texels, but a texture of this WebGL device holds ` +
      `${side} × ${side} = ${largestTexture()}.`,
  );
}
