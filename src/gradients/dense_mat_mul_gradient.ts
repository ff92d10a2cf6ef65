/** Gradients of a dense product, each computed only if it is wanted: two products, and a sum of columns. */
import type {GradConfig, Tensor2D} from '@tensorflow/tfjs-core';
import {DenseMatMul, type DenseMatMulAttrs} from '../kernel_names.js';
import {columnSums} from '../ops/column_sums.js';
import {denseMatMul} from '../ops/dense_mat_mul.js';

export const denseMatMulGradient: GradConfig = {
  kernelName: DenseMatMul,
  inputsToSave: ['a', 'b'],
  gradFunc: (dOut, saved, namedAttrs) => {
    const [dy, a, b] = [dOut, ...saved] as Tensor2D[];
    const {transposeA, transposeB} = namedAttrs as unknown as DenseMatMulAttrs;
    return {
      a: () =>
        transposeA
          ? denseMatMul(b, dy, {transposeA: transposeB, transposeB: true})
          : denseMatMul(dy, b, {transposeB: !transposeB}),
      b: () =>
        transposeB
          ? denseMatMul(dy, a, {transposeA: true, transposeB: transposeA})
          : denseMatMul(a, dy, {transposeA: !transposeA}),
      bias: () => columnSums(dy),
    };
  },
};
