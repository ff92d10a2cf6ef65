/** Sums of columns for backends that have no kernel of their own: tfjs's sum. */
import {getKernel, registerKernel, sum} from '@tensorflow/tfjs-core';
import {ColumnSums} from '../../src/kernel_names.js';
import {columnSumsKernel} from '../column_sums_kernels.js';
import {asTensor} from './as_tensor.js';

/** Makes sums of columns available on a backend that has no kernel of its own. */
export function registerColumnSumsFallback(backendName: string): void {
  if (getKernel(ColumnSums, backendName)) return;
  registerKernel(columnSumsKernel(backendName, (x) => sum(asTensor(x), 0)));
}
