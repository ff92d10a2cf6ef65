/** The kernel of rotary position embedding, and its sizes. */
import {type KernelConfig, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {RotaryEmbedding, type RotaryEmbeddingAttrs, type RotaryEmbeddingInputs} from '../src/kernel_names.js';

/** The kernel of a backend, which `rotate` is; it is never asked about empty tensors, which GPU kernels cannot bind. */
export function rotaryEmbeddingKernel(
  backendName: string,
  rotate: (inputs: RotaryEmbeddingInputs, attrs: RotaryEmbeddingAttrs, backend: object) => TensorInfo,
): KernelConfig {
  return {
    kernelName: RotaryEmbedding,
    backendName,
    kernelFunc: (call) => {
      const inputs = call.inputs as RotaryEmbeddingInputs;
      const {shape} = inputs.x;
      if (util.sizeFromShape(shape) === 0) return zeros(shape);
      return rotate(inputs, call.attrs as unknown as RotaryEmbeddingAttrs, call.backend);
    },
  };
}

export interface RotarySizes {
  /** B·S; position `first` + t % S is that of token t. */
  tokens: number;
  /** S */
  sequence: number;
  /** H */
  heads: number;
  /** D */
  depth: number;
}

export function rotarySizes({x}: RotaryEmbeddingInputs): RotarySizes {
  const [batch, sequence, heads, depth] = x.shape;
  return {tokens: batch * sequence, sequence, heads, depth};
}
