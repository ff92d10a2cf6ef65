/** The kernel that writes rows into a tensor, and where the rows lie. */
import {type KernelBackend, type KernelConfig, type TensorInfo, util} from '@tensorflow/tfjs-core';
import {AppendRows, type AppendRowsAttrs, type AppendRowsInputs} from '../src/kernel_names.js';

/** Where elements of one sample go. */
export interface RowRange {
  /** First element in the rows. */
  source: number;
  /** First element in the destination. */
  target: number;
  count: number;
}

/** One range per sample; `rowSize` counts what a row consists of, be it elements or texels. */
export function rowRanges(
  {destination, rows}: AppendRowsInputs,
  {offset}: AppendRowsAttrs,
  rowSize: number = util.sizeFromShape(rows.shape.slice(2)),
): RowRange[] {
  const [batch, capacity] = destination.shape;
  const count = rows.shape[1] * rowSize;
  return Array.from({length: batch}, (_, sample) => ({
    source: sample * count,
    target: (sample * capacity + offset) * rowSize,
    count,
  }));
}

/**
 * The kernel of a backend where `write` changes the destination's storage. `writable` gives the destination as `write` can
 * use it: the same storage, if that will do.
 */
export function appendRowsInPlace(
  backendName: string,
  write: (inputs: AppendRowsInputs, attrs: AppendRowsAttrs, backend: object) => void,
  writable: (destination: TensorInfo, backend: object) => TensorInfo = sharing,
): KernelConfig {
  return {
    kernelName: AppendRows,
    backendName,
    kernelFunc: (call): TensorInfo => {
      const {destination, rows} = call.inputs as AppendRowsInputs;
      const result = writable(destination, call.backend);
      write({destination: result, rows}, call.attrs as unknown as AppendRowsAttrs, call.backend);
      return result;
    },
  };
}

/** Another tensor of the same storage. */
export function sharing({dataId, shape, dtype}: TensorInfo, backend: object): TensorInfo {
  (backend as KernelBackend).incRef(dataId);
  return {dataId, shape, dtype};
}
