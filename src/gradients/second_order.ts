/** Gradients of gradient kernels that have none. */
import type {GradConfig} from '@tensorflow/tfjs-core';

/** Says so, instead of tfjs's bare "gradient function not found". @param instead what to write where one is needed. */
export function noSecondOrder(kernelName: string, op: string, instead: string): GradConfig {
  return {
    kernelName,
    gradFunc: () => {
      throw new Error(
        `${op} has no second-order gradient: its gradient cannot itself be differentiated. Where you need one, ${instead}.`,
      );
    },
  };
}
