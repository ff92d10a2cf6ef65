/** The sizes of a dense product, which kernels of all backends work out the same way. */
import type {DenseMatMulAttrs, DenseMatMulInputs} from '../src/kernel_names.js';

/** Of a product a·b: what it makes, and what lies between a and b. */
export interface DenseMatMulSizes {
  rows: number;
  columns: number;
  inner: number;
}

export function denseMatMulSizes(
  {a, b}: DenseMatMulInputs,
  {transposeA, transposeB}: DenseMatMulAttrs,
): DenseMatMulSizes {
  const [rows, inner] = transposeA ? [...a.shape].reverse() : a.shape;
  return {rows, inner, columns: b.shape[transposeB ? 0 : 1]};
}
