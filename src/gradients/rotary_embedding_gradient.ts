/** The gradient of rotary position embedding: it turns pairs, so what arrives is turned back. That has a gradient in turn. */
import {engine, type GradConfig, type NamedAttrMap, type Tensor} from '@tensorflow/tfjs-core';
import {RotaryEmbedding, type RotaryEmbeddingAttrs} from '../kernel_names.js';

export const rotaryEmbeddingGradient: GradConfig = {
  kernelName: RotaryEmbedding,
  inputsToSave: ['table'],
  gradFunc: (dy, [table], namedAttrs) => {
    const {first, inverse} = namedAttrs as RotaryEmbeddingAttrs;
    return {x: () => runRotaryEmbedding(dy as Tensor, table, {first, inverse: !inverse})};
  },
};

export function runRotaryEmbedding<T extends Tensor>(x: T, table: Tensor, attrs: RotaryEmbeddingAttrs): T {
  return engine().runKernel(RotaryEmbedding, {x, table}, attrs satisfies NamedAttrMap) as T;
}
