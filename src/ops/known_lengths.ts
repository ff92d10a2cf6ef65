/** What the host knows of tensors of lengths whose values may be on a GPU, where reading them would stall it. */
import type {Tensor} from '@tensorflow/tfjs-core';

/** By data id, so that clones share it. */
const largest = new WeakMap<object, number>();

export function rememberLargest(lengths: Tensor, value: number): void {
  largest.set(lengths.dataId, value);
}

export function knownLargest(lengths: Tensor | undefined): number | undefined {
  return lengths && largest.get(lengths.dataId);
}
