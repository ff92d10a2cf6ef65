/** The CPU kernels of gelu: plain loops in float64, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import type {GeluAttrs, GeluInputs} from '../../src/kernel_names.js';
import {CUBIC, LINEAR, PEAK_DENSITY, TAIL_COEFFICIENTS, TAIL_SLOPE} from '../gelu_formulas.js';
import {geluKernels} from '../gelu_kernels.js';

export const cpuGeluKernels = geluKernels('cpu', {
  forward: (inputs, {approximate}, backend) => {
    const gate = approximate ? sigmoidGate : cumulative;
    return ofEach(backend, inputs, (x) => x * gate(x));
  },
  backward: (inputs, attrs, backend) => {
    const dy = read(backend, inputs.dy);
    const slope = slopeOf(attrs);
    return ofEach(backend, inputs, (x, i) => dy[i] * slope(x));
  },
});

/** A function of each element with its bias. */
function ofEach(backend: object, {x, bias}: GeluInputs, f: (x: number, i: number) => number): TensorInfo {
  const values = read(backend, x);
  const added = bias ? read(backend, bias) : [0];
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = f(values[i] + added[i % added.length], i);
  return (backend as MathBackendCPU).makeTensorInfo(x.shape, 'float32', out);
}

function read(backend: object, {dataId}: TensorInfo): TypedArray {
  return (backend as MathBackendCPU).data.get(dataId).values as TypedArray;
}

function slopeOf({approximate}: GeluAttrs): (x: number) => number {
  if (!approximate) return (x) => cumulative(x) + x * PEAK_DENSITY * Math.exp(-0.5 * x * x);
  return (x) => {
    const gate = sigmoidGate(x);
    return gate + x * gate * (1 - gate) * (LINEAR + 3 * CUBIC * x * x);
  };
}

function sigmoidGate(x: number): number {
  return 1 / (1 + Math.exp(-x * (LINEAR + CUBIC * x * x)));
}

/** Φ(x). */
function cumulative(x: number): number {
  const t = 1 / (1 + TAIL_SLOPE * Math.abs(x));
  const polynomial = TAIL_COEFFICIENTS.reduceRight((sum, c) => sum * t + c, 0);
  const tail = Math.exp(-0.5 * x * x) * t * polynomial;
  return x < 0 ? tail : 1 - tail;
}
