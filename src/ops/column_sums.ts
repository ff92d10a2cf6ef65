/** Sums of columns: the gradient of what is added to every row. */
import {engine, type Tensor, type Tensor1D} from '@tensorflow/tfjs-core';
import {registerColumnSumsFallback} from '../../kernels/fallback/column_sums.js';
import {ColumnSums} from '../kernel_names.js';
import {asRows} from './reshape_if_needed.js';

/**
 * The sum of x [.., W] over all axes but the last. tfjs on WebGPU transposes what it adds up along the first axis, and on
 * each backend adds up a column in one go; this reads x once, in its own order. Not differentiable.
 */
export function columnSums(x: Tensor): Tensor1D {
  registerColumnSumsFallback(engine().backendName);
  return engine().runKernel(ColumnSums, {x: asRows(x)}) as Tensor1D;
}
