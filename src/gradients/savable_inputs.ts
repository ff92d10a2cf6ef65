/** Kernel inputs in the form that tfjs saves for a gradient. */
import type {NamedTensorMap} from '@tensorflow/tfjs-core';

/**
 * tfjs saves "all inputs" of a kernel for its gradient only if they are an array, and cannot save inputs by name where
 * one may be absent. An array that carries the inputs under their names satisfies both it and the kernels.
 */
export function asSavable(inputs: NamedTensorMap): NamedTensorMap {
  return Object.assign([], inputs) as unknown as NamedTensorMap;
}
