/** gelu for backends that have no kernel of their own: tfjs's ops, one by one. */
import {
  add,
  erf,
  exp,
  getKernel,
  mul,
  registerKernel,
  sigmoid,
  square,
  sub,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core';
import {Gelu, type GeluInputs} from '../../src/kernel_names.js';
import {CUBIC, LINEAR, PEAK_DENSITY} from '../gelu_formulas.js';
import {geluKernels} from '../gelu_kernels.js';
import {asTensor} from './as_tensor.js';

/** Makes gelu available on a backend that has no kernel of its own. */
export function registerGeluFallback(backendName: string): void {
  if (getKernel(Gelu, backendName)) return;
  const kernels = geluKernels(backendName, {
    forward: (inputs, {approximate}) =>
      tidy(() => {
        const x = biased(inputs);
        return mul(x, approximate ? sigmoidGate(x) : cumulative(x));
      }),
    backward: (inputs, {approximate}) =>
      tidy(() => {
        const x = biased(inputs);
        return mul(asTensor(inputs.dy), approximate ? approximateSlope(x) : exactSlope(x));
      }),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

function biased({x, bias}: GeluInputs): Tensor {
  return bias ? add(asTensor(x), asTensor(bias)) : asTensor(x);
}

function sigmoidGate(x: Tensor): Tensor {
  return sigmoid(mul(x, add(mul(square(x), CUBIC), LINEAR)));
}

/** With v for what the sigmoid is taken of, gate + x·gate·(1 − gate)·dv/dx. */
function approximateSlope(x: Tensor): Tensor {
  const gate = sigmoidGate(x);
  const y = mul(x, gate);
  return add(gate, mul(sub(y, mul(y, gate)), add(mul(square(x), 3 * CUBIC), LINEAR)));
}

/** Φ(x). */
function cumulative(x: Tensor): Tensor {
  return add(mul(erf(mul(x, Math.SQRT1_2)), 0.5), 0.5);
}

/** Φ(x) + x·φ(x). */
function exactSlope(x: Tensor): Tensor {
  return add(cumulative(x), mul(x, mul(exp(mul(square(x), -0.5)), PEAK_DENSITY)));
}
