/**
 * Layouts on WebGL, whose programs go over chunks of keys and not over blocks: a layout becomes a mask of elements there, so
 * that attention with one takes the time of attention without, and the memory of the mask.
 */
import {type KernelFunc, logicalAnd, type NamedAttrMap, tensor, tidy} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {type AttentionSizes, attentionSizes} from '../attention_sizes.js';
import {asTensor} from '../fallback/as_tensor.js';

/** The kernel, with the layout of a call folded into its mask. */
export function withLayoutAsMask(kernel: KernelFunc): KernelFunc {
  return (call) => {
    const attrs = call.attrs as unknown as FlashAttentionAttrs;
    const {layout} = attrs;
    if (!layout) return kernel(call);
    const inputs = call.inputs as FlashAttentionInputs;
    const {shape, values} = elementMask(layout, attentionSizes(inputs, attrs.order));
    const mask = tidy(() => {
      const live = tensor(values, shape, 'bool');
      return inputs.mask ? logicalAnd(asTensor(inputs.mask), live) : live;
    });
    try {
      const withoutLayout: FlashAttentionAttrs = {...attrs, layout: null};
      return kernel({...call, inputs: {...call.inputs, mask}, attrs: withoutLayout as unknown as NamedAttrMap});
    } finally {
      mask.dispose();
    }
  };
}

/** [1, 1|H, Sq, Sk], 1 where the layout lets a query see a key. */
function elementMask(
  layout: BlockLayout,
  {queries, keys}: AttentionSizes,
): {shape: [number, number, number, number]; values: Uint8Array} {
  const {heads, blockSize} = layout;
  const values = new Uint8Array(heads * queries * keys);
  for (let row = 0; row < heads * queries; row++) {
    const live = layout.liveColumns(Math.floor(row / queries), Math.floor((row % queries) / blockSize[0]));
    for (let key = 0; key < keys; key++) values[row * keys + key] = live[Math.floor(key / blockSize[1])];
  }
  return {shape: [1, heads, queries, keys], values};
}
