import {reshape, type Tensor, util} from '@tensorflow/tfjs-core';

/** A reshape is a kernel, and another in the gradient; small products feel what that costs the host. */
export function reshapeIfNeeded(t: Tensor, shape: number[]): Tensor {
  return util.arraysEqual(t.shape, shape) ? t : reshape(t, shape);
}

/** [.., n] as [batch, n]. */
export function asRows(t: Tensor): Tensor {
  return reshapeIfNeeded(t, [util.sizeFromShape(t.shape.slice(0, -1)), t.shape[t.rank - 1]]);
}
