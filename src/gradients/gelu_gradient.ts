/** The gradient of gelu: one kernel for x, which recomputes from x and bias what it needs, and the sum of its rows for bias. */
import {engine, type GradConfig, type NamedAttrMap, type Tensor} from '@tensorflow/tfjs-core';
import {Gelu, type GeluAttrs, GeluBackward} from '../kernel_names.js';
import {columnSums} from '../ops/column_sums.js';
import {asSavable} from './savable_inputs.js';
import {noSecondOrder} from './second_order.js';

export const geluGradients: GradConfig[] = [
  {
    kernelName: Gelu,
    saveAllInputs: true,
    gradFunc: (dy, [x, bias], attrs) => {
      const inputs = {x, dy: dy as Tensor, ...(bias && {bias})};
      // tfjs calls each function below in a tidy of its own, so what they share is made out here.
      const dx = engine().runKernel(GeluBackward, inputs, attrs) as Tensor;
      return {x: () => dx, ...(bias && {bias: () => columnSums(dx)})};
    },
  },
  noSecondOrder(GeluBackward, 'gelu', 'write it with tf.erf or tf.tanh'),
];

export function runGelu(x: Tensor, bias: Tensor | undefined, attrs: GeluAttrs): Tensor {
  const inputs = asSavable({x, ...(bias && {bias})});
  return engine().runKernel(Gelu, inputs, attrs as unknown as NamedAttrMap) as Tensor;
}
