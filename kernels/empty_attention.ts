/**
 * Attention over nothing: no batch, no head, no query, no key, or no live block. GPU kernels cannot bind empty buffers,
 * and every backend's answer is the same constants, so the case is taken off their hands.
 */
import {
  type KernelConfig,
  type KernelFunc,
  type NamedAttrMap,
  type NamedTensorInfoMap,
  type TensorInfo,
  tensor,
  util,
} from '@tensorflow/tfjs-core';
import {
  FlashAttention,
  type FlashAttentionAttrs,
  FlashAttentionBackward,
  FlashAttentionBiasBackward,
  type FlashAttentionInputs,
  FlashAttentionSlopesBackward,
  LOWEST_FLOAT32,
} from '../src/kernel_names.js';
import {attentionSizes, shapeInOrder} from './attention_sizes.js';

/** The kernel, with the empty case answered before it runs. */
export function withEmptyCase(config: KernelConfig): KernelConfig {
  const kernelFunc: KernelFunc = (call) =>
    isEmpty(call.inputs, call.attrs) ? constants(config.kernelName, call.inputs, call.attrs) : config.kernelFunc(call);
  return {...config, kernelFunc};
}

function isEmpty({q, k}: NamedTensorInfoMap, attrs: NamedAttrMap | undefined): boolean {
  const {layout} = attrs as unknown as FlashAttentionAttrs;
  if (layout?.nnz === 0) return true;
  return util.sizeFromShape((q as TensorInfo).shape) === 0 || util.sizeFromShape((k as TensorInfo).shape) === 0;
}

function constants(
  kernelName: string,
  inputs: NamedTensorInfoMap,
  attrs: NamedAttrMap | undefined,
): TensorInfo | TensorInfo[] {
  const {q, k, v, bias, alibiSlopes} = inputs as FlashAttentionInputs;
  const zerosLike = (t: TensorInfo) => filled(t.shape, 0);
  switch (kernelName) {
    case FlashAttention: {
      const {order} = attrs as unknown as FlashAttentionAttrs;
      const {batch, heads, queries, valueDepth} = attentionSizes({q, k, v}, order);
      const output = filled(shapeInOrder(order, batch, heads, queries, valueDepth), 0);
      return [output, filled([batch, heads, queries, 2], LOWEST_FLOAT32, 1)];
    }
    case FlashAttentionBackward:
      return [zerosLike(q), zerosLike(k), zerosLike(v)];
    case FlashAttentionBiasBackward:
      return zerosLike(bias as TensorInfo);
    case FlashAttentionSlopesBackward:
      return zerosLike(alibiSlopes as TensorInfo);
    default:
      throw new Error(`${kernelName} is no attention kernel.`);
  }
}

/** Repeats the values. Not `tf.fill`, which runs a GPU kernel even where there is nothing to fill. */
function filled(shape: number[], ...values: number[]): TensorInfo {
  const all = Float32Array.from({length: util.sizeFromShape(shape)}, (_, i) => values[i % values.length]);
  return tensor(all, shape, 'float32');
}
