/** The kernel that makes sums of columns available on a backend. */
import {type KernelConfig, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {ColumnSums, type ColumnSumsInputs} from '../src/kernel_names.js';

/** @param sumColumns is never asked about empty matrices, which GPU kernels cannot bind. */
export function columnSumsKernel(
  backendName: string,
  sumColumns: (x: TensorInfo, backend: object) => TensorInfo,
): KernelConfig {
  return {
    kernelName: ColumnSums,
    backendName,
    kernelFunc: (call): TensorInfo => {
      const {x} = call.inputs as ColumnSumsInputs;
      return util.sizeFromShape(x.shape) === 0 ? zeros([x.shape[1]]) : sumColumns(x, call.backend);
    },
  };
}
