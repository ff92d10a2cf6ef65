/** Kernel inputs as the tensors that tfjs's ops take. */
import type {Rank, Tensor, TensorInfo} from '@tensorflow/tfjs-core';

/** What the engine hands a kernel are its caller's tensors, though the kernel's type promises less. */
export function asTensor<R extends Rank = Rank.R4>(t: TensorInfo): Tensor<R> {
  return t as Tensor<R>;
}
