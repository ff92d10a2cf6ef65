/** Gradients of a projection, each computed only if it is wanted: two products, and a sum of columns. */
import {type GradConfig, matMul, type Tensor2D} from '@tensorflow/tfjs-core';
import {Project} from '../kernel_names.js';
import {columnSums} from '../ops/column_sums.js';

export const projectGradient: GradConfig = {
  kernelName: Project,
  inputsToSave: ['x', 'w'],
  gradFunc: (dOut, saved) => {
    const [dy, x, w] = [dOut, ...saved] as Tensor2D[];
    return {
      x: () => matMul(dy, w, false, true),
      w: () => matMul(x, dy, true, false),
      bias: () => columnSums(dy),
    };
  },
};
