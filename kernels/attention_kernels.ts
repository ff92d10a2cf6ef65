/** The kernels that make attention available on a backend. */
import type {KernelConfig, KernelFunc} from '@tensorflow/tfjs-core';
import {
  FlashAttention,
  FlashAttentionBackward,
  FlashAttentionBiasBackward,
  FlashAttentionSlopesBackward,
} from '../src/kernel_names.js';
import {withEmptyCase} from './empty_attention.js';

/** What a backend does for each of them; it is never asked about empty tensors. */
export interface AttentionKernelFuncs {
  forward: KernelFunc;
  backward: KernelFunc;
  biasBackward: KernelFunc;
  slopesBackward: KernelFunc;
}

/** The kernels of one backend, ready to be registered. */
export function attentionKernels(backendName: string, funcs: AttentionKernelFuncs): KernelConfig[] {
  const kernel = (kernelName: string, kernelFunc: KernelFunc) => withEmptyCase({kernelName, backendName, kernelFunc});
  return [
    kernel(FlashAttention, funcs.forward),
    kernel(FlashAttentionBackward, funcs.backward),
    kernel(FlashAttentionBiasBackward, funcs.biasBackward),
    kernel(FlashAttentionSlopesBackward, funcs.slopesBackward),
  ];
}
