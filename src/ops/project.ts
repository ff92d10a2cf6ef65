/** The product of a dense layer. */
import {engine, matMul, type Tensor1D, type Tensor2D} from '@tensorflow/tfjs-core';
import {registerProject} from '../../kernels/fallback/project.js';
import {Project} from '../kernel_names.js';

/**
 * x·w + bias of x [rows, in], w [in, out] and bias [out]. The gradients of tfjs's fused.matMul are all computed, whether
 * they are wanted or not, that for the bias from a transposed copy; and it keeps the product besides its inputs.
 */
export function project(x: Tensor2D, w: Tensor2D, bias: Tensor1D | undefined): Tensor2D {
  if (!bias) return matMul(x, w);
  registerProject(engine().backendName);
  return engine().runKernel(Project, {x, w, bias}) as Tensor2D;
}
