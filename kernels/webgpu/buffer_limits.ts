/** Whether the tensors of a call fit into the buffers of a device, before any work: WebGPU itself fails in silence. */
import {type TensorInfo, util} from '@tensorflow/tfjs-core';
import type {FlashAttentionInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, shapeInOrder} from '../attention_sizes.js';

export const BYTES_PER_ELEMENT = 4;

/** Throws an error that names the tensor and its shape if an input or the output does not fit. */
export function assertBuffersFit(
  device: GPUDevice,
  {q, k, v, bias, mask}: FlashAttentionInputs,
  {batch, heads, queries, valueDepth}: AttentionSizes,
): void {
  for (const [name, tensor] of Object.entries({q, k, v, bias, mask})) {
    if (tensor) assertBufferFits(device, 'flashAttention', name, tensor.shape);
  }
  assertBufferFits(device, 'flashAttention', 'the output', shapeInOrder('BHSD', batch, heads, queries, valueDepth));
}

/** Throws an error that names the op, its tensor and the shape if that does not fit. */
export function assertBufferFits({limits}: GPUDevice, op: string, name: string, shape: TensorInfo['shape']): void {
  const bytes = util.sizeFromShape(shape) * BYTES_PER_ELEMENT;
  const limit = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  if (bytes <= limit) return;
  throw new Error(
    `${op}: ${name} of shape [${shape}] needs ${bytes} bytes, but a buffer of this WebGPU device holds ` +
      `${limit}. registerFlashBackend() makes a device with the adapter's own limits.`,
  );
}
