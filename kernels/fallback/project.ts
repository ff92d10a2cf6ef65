/** Projections on all backends: tfjs's product, which adds the bias on the way. */
import {fused, getKernel, registerKernel, type Tensor, tidy} from '@tensorflow/tfjs-core';
import {Project, type ProjectInputs} from '../../src/kernel_names.js';
import {asTensor} from './as_tensor.js';

/** Makes projections available on a backend. */
export function registerProject(backendName: string): void {
  if (getKernel(Project, backendName)) return;
  registerKernel({
    kernelName: Project,
    backendName,
    kernelFunc: ({inputs}) => {
      const {x, w, bias} = inputs as ProjectInputs;
      return tidy((): Tensor => fused.matMul({a: asTensor(x), b: asTensor(w), bias: asTensor(bias)}));
    },
  });
}
