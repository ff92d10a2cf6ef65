/** What the GPU kernels of butterfly products have in common: numbers that may be complex, as one or two tensors. */
import {engine, reshape, slice, sum, type TensorInfo, tidy} from '@tensorflow/tfjs-core';
import type {ButterflySizes} from './butterfly_sizes.js';

/** A tensor, and its imaginary part where it has one. */
export type Parts = TensorInfo[];

/** Rows in memory; `isSplit` where each stack has its own n columns of them. */
export interface PartedRows {
  tensors: Parts;
  width: number;
  isSplit: boolean;
}

export function parts(real: TensorInfo, imag: TensorInfo | undefined): Parts {
  return imag ? [real, imag] : [real];
}

/** The parts under the names that shaders give them. */
export function named(name: string, [real, imag]: Parts): Record<string, TensorInfo | undefined> {
  return {[name]: real, [`${name}Imag`]: imag};
}

/** What stacks put out side by side, [batch, stacks·n], added up and cut off: [batch, size]. The tensors are used up. */
export function addStacks(tensors: Parts, {batch, stacks, n}: ButterflySizes, size: number): Parts {
  return tensors.map((tensor) =>
    tidy(() => {
      const perStack = reshape(engine().makeTensorFromTensorInfo(tensor), [batch, stacks, n]);
      return slice(sum(perStack, 1), [0, 0], [batch, size]);
    }),
  );
}
