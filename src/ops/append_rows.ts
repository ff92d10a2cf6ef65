import {engine, type NamedAttrMap, type Tensor4D} from '@tensorflow/tfjs-core';
import {registerAppendRowsFallback} from '../../kernels/fallback/append_rows.js';
import {AppendRows, type AppendRowsAttrs} from '../kernel_names.js';

/**
 * Writes `rows` [B, count, H, D] into `destination` [B, capacity, H, D] from `offset` on its second axis: for owners of tensors
 * that nobody else holds, because the destination's own storage changes where the backend can do that.
 *
 * @returns the tensor to use from now on instead of the destination, which is to be disposed.
 */
export function appendRows(destination: Tensor4D, rows: Tensor4D, offset: number): Tensor4D {
  registerAppendRowsFallback(engine().backendName);
  const attrs: AppendRowsAttrs = {offset};
  return engine().runKernel(AppendRows, {destination, rows}, attrs satisfies NamedAttrMap) as Tensor4D;
}
