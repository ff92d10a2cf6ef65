/** The product of two dense matrices, as layers have it. */
import {engine, type NamedAttrMap, type Tensor1D, type Tensor2D} from '@tensorflow/tfjs-core';
import {registerDenseMatMulFallback} from '../../kernels/fallback/dense_mat_mul.js';
import {DenseMatMul, type DenseMatMulAttrs} from '../kernel_names.js';

export interface DenseMatMulOptions extends Partial<DenseMatMulAttrs> {
  /** [columns of the product], added to each of its rows. */
  bias?: Tensor1D;
}

/**
 * a·b + bias of matrices, either of them transposed if so asked. Large products on GPUs have kernels of ours, all others
 * are tfjs's. The gradients of tfjs's fused.matMul are all computed, whether they are wanted or not, that for the
 * bias from a transposed copy; and it keeps the product besides its inputs.
 */
export function denseMatMul(a: Tensor2D, b: Tensor2D, options: DenseMatMulOptions = {}): Tensor2D {
  const {bias, transposeA = false, transposeB = false} = options;
  const attrs: DenseMatMulAttrs = {transposeA, transposeB};
  assertFit(a, b, bias, attrs);
  registerDenseMatMulFallback(engine().backendName);
  const inputs = {a, b, ...(bias && {bias})};
  return engine().runKernel(DenseMatMul, inputs, attrs as unknown as NamedAttrMap) as Tensor2D;
}

function assertFit(a: Tensor2D, b: Tensor2D, bias: Tensor1D | undefined, attrs: DenseMatMulAttrs): void {
  const {transposeA, transposeB} = attrs;
  const [innerOfA, innerOfB] = [a.shape[transposeA ? 0 : 1], b.shape[transposeB ? 1 : 0]];
  if (innerOfA !== innerOfB) {
    throw new Error(
      `denseMatMul: a of shape [${a.shape}] has ${innerOfA} ${transposeA ? 'rows' : 'columns'}, ` +
        `b of shape [${b.shape}] has ${innerOfB} ${transposeB ? 'columns' : 'rows'}.`,
    );
  }
  const columns = b.shape[transposeB ? 0 : 1];
  if (bias && (bias.rank !== 1 || bias.shape[0] !== columns)) {
    throw new Error(`denseMatMul: bias must have shape [${columns}], got [${bias.shape}].`);
  }
}
