/** Normalization over the last axis, with a gradient of its own. */
import {
  add,
  customGrad,
  type GradSaveFunc,
  mean,
  mul,
  rsqrt,
  type Scalar,
  square,
  sub,
  type Tensor,
} from '@tensorflow/tfjs-core';

/**
 * (x − mean) / √(variance + epsilon) over the last axis, of the shape of x. Its gradient is its own: that of tf.mean
 * uploads ones of the size of x in every step, and the layer of tfjs-layers tiles statistics to the width, whose gradient
 * adds up the copies one by one. Either takes longer than the products of a transformer.
 *
 * @param epsilon a tensor, so that one upload serves all calls; it takes no gradient.
 */
export function normalize(x: Tensor, epsilon: Scalar): Tensor {
  const normalized = customGrad((...inputs) => {
    const [input, save] = inputs as [Tensor, GradSaveFunc];
    const {centred, factor} = statistics(input, epsilon);
    const value = mul(centred, factor);
    save([input, value, epsilon]);
    return {value, gradFunc};
  });
  return normalized(x);
}

function statistics(x: Tensor, epsilon: Tensor): {centred: Tensor; factor: Tensor} {
  const centred = sub(x, mean(x, -1, true));
  return {centred, factor: rsqrt(add(mean(square(centred), -1, true), epsilon))};
}

/** The factor is computed again: tfjs, in tests, takes anything saved but inputs and outputs for a leak. */
function gradFunc(dy: Tensor, [x, y, epsilon]: Tensor[]): Tensor {
  const {factor} = statistics(x, epsilon);
  return mul(factor, sub(sub(dy, mean(dy, -1, true)), mul(y, mean(mul(dy, y), -1, true))));
}
