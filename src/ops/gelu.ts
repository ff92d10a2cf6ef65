/** The op `gelu`. */
import {engine, op, type Tensor, type Tensor1D, util} from '@tensorflow/tfjs-core';
import {convertToTensor} from '@tensorflow/tfjs-core/dist/tensor_util_env';
import {registerGeluFallback} from '../../kernels/fallback/gelu.js';
import {runGelu} from '../gradients/gelu_gradient.js';
import {reshapeIfNeeded} from './reshape_if_needed.js';

/** Options of {@link gelu}. */
export interface GeluOptions {
  /** ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) in place of the exact function, as in GPT-2. Default false. */
  approximate?: boolean;
  /** [W], float32: added to x over its last axis first, so that the sum is never written. Default: none. */
  bias?: Tensor1D;
}

/** tfjs's programs know shapes of four axes at most. */
const MOST_AXES = 4;

function gelu_<T extends Tensor>(x: T, {approximate = false, bias}: GeluOptions = {}): T {
  const input = convertToTensor(x, 'x', 'gelu', 'float32');
  const added = bias && convertToTensor(bias, 'bias', 'gelu', 'float32');
  const width = input.rank === 0 ? 1 : input.shape[input.rank - 1];
  if (added && !util.arraysEqual(added.shape, [width])) {
    throw new Error(
      `gelu: bias must have the shape [${width}] of the last axis of x, got [${added.shape}] for x [${input.shape}].`,
    );
  }
  registerGeluFallback(engine().backendName);
  const isMatrices = input.rank >= 2 && input.rank <= MOST_AXES;
  const matrices = isMatrices || input.size === 0 ? input : reshapeIfNeeded(input, [input.size / width, width]);
  return reshapeIfNeeded(runGelu(matrices, added, {approximate}), input.shape) as T;
}

/**
 * The Gaussian error linear unit of x, or of x + bias: z·Φ(z), where Φ is the normal distribution's cumulative function.
 * One kernel forward, and one for the gradient, which is computed from x and bias again, so that nothing else is kept; the
 * gradient for bias is a sum of rows. There are no second-order gradients.
 *
 * On the CPU, WebGPU and WebGL, Φ is right to some units in float32's last place, for negative x too; no x overflows.
 *
 * Source: Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)" (2016, arXiv 1606.08415).
 *
 * ```js
 * const dx = tf.grad((x) => tf.gelu(x, {approximate: true}));
 * console.log((await dx(tf.tensor1d([-100, 0, 100])).data()).join(' ')); // [0 0.5 1]
 * ```
 *
 * @param x float32, of any shape.
 * @param options see {@link GeluOptions}.
 * @returns float32, of the shape of x.
 * @throws Error that shows the shapes, if bias does not fit.
 */
export const gelu = /* @__PURE__ */ op({gelu_}) as typeof gelu_;
