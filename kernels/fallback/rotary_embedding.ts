/** Rotary position embedding for backends that have no kernel of their own: tfjs's ops, on the halves of x. */
import {
  add,
  concat,
  expandDims,
  getKernel,
  mul,
  neg,
  registerKernel,
  slice,
  sub,
  type Tensor2D,
  type Tensor4D,
  tidy,
} from '@tensorflow/tfjs-core';
import {RotaryEmbedding, type RotaryEmbeddingAttrs} from '../../src/kernel_names.js';
import {rotaryEmbeddingKernel} from '../rotary_embedding_kernels.js';
import {asTensor} from './as_tensor.js';

/** Makes rotary position embedding available on a backend that has no kernel of its own. */
export function registerRotaryEmbeddingFallback(backendName: string): void {
  if (getKernel(RotaryEmbedding, backendName)) return;
  registerKernel(
    rotaryEmbeddingKernel(backendName, ({x, table}, attrs) => tidy(() => rotated(asTensor(x), asTensor(table), attrs))),
  );
}

function rotated(x: Tensor4D, table: Tensor2D, {first, inverse}: RotaryEmbeddingAttrs): Tensor4D {
  const [, length, , depth] = x.shape;
  const half = depth / 2;
  /** [S, 1, D / 2] */
  const columns = (start: number) => expandDims(slice(table, [first, start], [length, half]), 1);
  const [cos, positiveSin] = [columns(0), columns(half)];
  const sin = inverse ? neg(positiveSin) : positiveSin;
  const [left, right] = [0, half].map((start) => slice(x, [0, 0, 0, start], [-1, -1, -1, half]));
  return concat([sub(mul(left, cos), mul(right, sin)), add(mul(right, cos), mul(left, sin))], 3) as Tensor4D;
}
