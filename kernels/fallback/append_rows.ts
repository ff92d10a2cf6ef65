/** Appending for backends that cannot write into a tensor: a new one, put together from the old and the rows. */
import {concat, getKernel, registerKernel, slice, type Tensor4D, tidy} from '@tensorflow/tfjs-core';
import {AppendRows, type AppendRowsAttrs, type AppendRowsInputs} from '../../src/kernel_names.js';
import {asTensor} from './as_tensor.js';

/** Makes appending available on a backend that has no kernel of its own. */
export function registerAppendRowsFallback(backendName: string): void {
  if (getKernel(AppendRows, backendName)) return;
  registerKernel({
    kernelName: AppendRows,
    backendName,
    kernelFunc: ({inputs, attrs}) => {
      const {destination, rows} = inputs as AppendRowsInputs;
      const {offset} = attrs as unknown as AppendRowsAttrs;
      return tidy(() => concatenated(asTensor(destination), asTensor(rows), offset));
    },
  });
}

function concatenated(destination: Tensor4D, rows: Tensor4D, offset: number): Tensor4D {
  const capacity = destination.shape[1];
  const end = offset + rows.shape[1];
  const part = (first: number, last: number) =>
    first === last ? [] : [slice(destination, [0, first], [-1, last - first])];
  return concat([...part(0, offset), rows, ...part(end, capacity)], 1);
}
