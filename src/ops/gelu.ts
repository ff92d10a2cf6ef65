/** The op `gelu`. */
import {
  add,
  customGrad,
  erf,
  exp,
  type GradSaveFunc,
  mul,
  op,
  sigmoid,
  square,
  sub,
  type Tensor,
} from '@tensorflow/tfjs-core';
import {convertToTensor} from '@tensorflow/tfjs-core/dist/tensor_util_env';

/** Options of {@link gelu}. */
export interface GeluOptions {
  /** ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) in place of the exact function, as in GPT-2. Default false. */
  approximate?: boolean;
}

/** ½·(1 + tanh(u)) is sigmoid(2u), and 2u is x·(LINEAR + CUBIC·x²). */
const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = LINEAR * 0.044715;

const approximateGelu = customGrad((...inputs) => {
  const [x, save] = inputs as [Tensor, GradSaveFunc];
  save([x]);
  return {value: mul(x, gateOf(x, square(x))), gradFunc: approximateGradient};
});

function gateOf(x: Tensor, squared: Tensor): Tensor {
  return sigmoid(mul(x, add(mul(squared, CUBIC), LINEAR)));
}

/** With u for what the sigmoid is taken of, dy/dx = gate + x·gate·(1 − gate)·du/dx. */
function approximateGradient(dy: Tensor, [x]: Tensor[]): Tensor {
  const squared = square(x);
  const gate = gateOf(x, squared);
  const y = mul(x, gate);
  const slope = add(mul(squared, 3 * CUBIC), LINEAR);
  return mul(dy, add(gate, mul(sub(y, mul(y, gate)), slope)));
}

const exactGelu = customGrad((...inputs) => {
  const [x, save] = inputs as [Tensor, GradSaveFunc];
  save([x]);
  return {value: mul(x, cumulative(x)), gradFunc: exactGradient};
});

/** Φ(x). */
function cumulative(x: Tensor): Tensor {
  return add(mul(erf(mul(x, Math.SQRT1_2)), 0.5), 0.5);
}

/** Φ(x) + x·φ(x). */
function exactGradient(dy: Tensor, [x]: Tensor[]): Tensor {
  const density = mul(exp(mul(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return mul(dy, add(cumulative(x), mul(x, density)));
}

function gelu_<T extends Tensor>(x: T, {approximate = false}: GeluOptions = {}): T {
  const input = convertToTensor(x, 'x', 'gelu', 'float32');
  return (approximate ? approximateGelu(input) : exactGelu(input)) as T;
}

/**
 * The Gaussian error linear unit, x·Φ(x), where Φ is the normal distribution's cumulative function, with a gradient in a
 * few kernels: through the activations 'gelu' and 'gelu_new' of tfjs-layers it takes several times as many.
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
 */
export const gelu = /* @__PURE__ */ op({gelu_}) as typeof gelu_;
