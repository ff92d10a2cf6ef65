/** The CPU kernel of Adam's step: a plain loop in float64, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {KernelConfig, TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import {AdamStep, type AdamStepAttrs, type AdamStepInputs} from '../../src/kernel_names.js';

export const cpuAdamStep: KernelConfig = {
  kernelName: AdamStep,
  backendName: 'cpu',
  kernelFunc: (call): TensorInfo[] => {
    const backend = call.backend as MathBackendCPU;
    const read = ({dataId}: TensorInfo) => backend.data.get(dataId).values as TypedArray;
    const {value, gradient, firstMoment, secondMoment} = call.inputs as AdamStepInputs;
    const {learningRate, beta1, beta2, epsilon, correction1, correction2} = call.attrs as unknown as AdamStepAttrs;
    const [w, g, m, v] = [value, gradient, firstMoment, secondMoment].map(read);
    const after = [w, m, v].map(({length}) => new Float32Array(length));
    for (let i = 0; i < w.length; i++) {
      const first = beta1 * m[i] + (1 - beta1) * g[i];
      const second = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
      after[0][i] = w[i] - (learningRate * (first / correction1)) / (Math.sqrt(second / correction2) + epsilon);
      after[1][i] = first;
      after[2][i] = second;
    }
    return after.map((values) => backend.makeTensorInfo(value.shape, 'float32', values));
  },
};
