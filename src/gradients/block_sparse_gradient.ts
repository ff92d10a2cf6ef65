/**
 * Gradients of block-sparse products. For mode m0 m1 m2 the gradient of the left operand is a product of mode m1 m0 m2
 * and that of the right one of mode m2 m1 m0: with y = op(a)·op(b), d op(a) = dy·op(b)ᵀ and d op(b) = op(a)ᵀ·dy, and a
 * transposed operand's gradient is the transposed product. They are ordinary products, so they have gradients in turn.
 */
import {engine, type GradConfig, type NamedAttrMap, type Tensor} from '@tensorflow/tfjs-core';
import {BlockSparseMatMul, type BlockSparseMatMulAttrs, type BlockSparseMode} from '../kernel_names.js';

export const blockSparseMatMulGradient: GradConfig = {
  kernelName: BlockSparseMatMul,
  inputsToSave: ['a', 'b'],
  gradFunc: (dy, saved, namedAttrs) => {
    const {mode, layout, transposeA, transposeB} = namedAttrs as unknown as BlockSparseMatMulAttrs;
    const [a, b] = saved;
    const [ofOut, ofA, ofB] = mode;
    const product = (operands: [Tensor, Tensor], letters: string[], transposes: [boolean, boolean]) => {
      const attrs = {
        mode: letters.join('') as BlockSparseMode,
        layout,
        transposeA: transposes[0],
        transposeB: transposes[1],
      };
      // Values that the whole batch shares get the sum of its gradients.
      const sumBatch = letters[0] === 's' && (ofA === 's' ? a : b).shape[0] === 1;
      return runBlockSparseMatMul(...operands, {...attrs, sumBatch});
    };
    const dOut = dy as Tensor;
    return {
      a: () =>
        transposeA
          ? product([b, dOut], [ofA, ofB, ofOut], [transposeB, true])
          : product([dOut, b], [ofA, ofOut, ofB], [false, !transposeB]),
      b: () =>
        transposeB
          ? product([dOut, a], [ofB, ofOut, ofA], [true, transposeA])
          : product([a, dOut], [ofB, ofA, ofOut], [!transposeA, false]),
    };
  },
};

export function runBlockSparseMatMul(a: Tensor, b: Tensor, attrs: BlockSparseMatMulAttrs): Tensor {
  return engine().runKernel(BlockSparseMatMul, {a, b}, attrs as unknown as NamedAttrMap) as Tensor;
}
