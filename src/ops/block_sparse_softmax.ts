/** The op `blockSparseSoftmax`. */
import {
  clone,
  engine,
  op,
  reshape,
  type Tensor,
  Tensor as TensorClass,
  type TensorLike,
  tensor,
  util,
} from '@tensorflow/tfjs-core';
import {registerSoftmaxFallback} from '../../kernels/fallback/block_sparse_softmax.js';
import {runBlockSparseSoftmax} from '../gradients/block_sparse_softmax_gradient.js';
import {BlockLayout} from '../sparsity/block_layout.js';

/** Options of {@link blockSparseSoftmax}. */
export interface BlockSparseSoftmaxOptions {
  /** The live blocks of the matrix. */
  layout: BlockLayout;
  /** Factor on the values. Default 1. */
  scale?: number;
  /** Element (i, j) is visible iff j ≤ i + columns − rows, aligned at the bottom right. Default false: all are. */
  causal?: boolean;
}

function blockSparseSoftmax_(values: Tensor | TensorLike, options: BlockSparseSoftmaxOptions): Tensor {
  const {layout, scale = 1, causal = false} = options ?? {};
  if (!(layout instanceof BlockLayout)) {
    throw new Error(`blockSparseSoftmax: layout must be a BlockLayout, got ${layout}.`);
  }
  if (!Number.isFinite(scale)) throw new Error(`blockSparseSoftmax: scale must be a finite number, got ${scale}.`);
  const t = values instanceof TensorClass ? values : tensor(values);
  const blocks = [layout.nnz, ...layout.blockSize];
  if (t.dtype !== 'float32' || !util.arraysEqual(t.shape.slice(-3), blocks)) {
    throw new Error(
      `blockSparseSoftmax: values must be those of the layout's live blocks, float32 [.., ${blocks.join(', ')}], ` +
        `got ${t.dtype} [${t.shape.join(', ')}].`,
    );
  }
  if (t.size === 0) return clone(t);
  registerSoftmaxFallback(engine().backendName);
  return reshape(runBlockSparseSoftmax(reshape(t, [-1, ...blocks]), {layout, scale, causal}), t.shape);
}

/**
 * Softmax of a block-sparse matrix: along each row, over the elements of live blocks only, as if dead blocks held
 * −Infinity. With `blockSparseMatMul` it makes attention by hand: scores in mode 'sdd', this, and the product with v in
 * mode 'dsd'. Differentiable any number of times. (`flashAttention` with `layout` does the same without writing the scores.)
 *
 * −Infinity hides an element, and so does anything below −1e38; hidden elements, and so all of a row that sees nothing,
 * give 0 and take no gradient. The row's maximum is subtracted first. Sums run in a fixed order, so that results are the
 * same bit for bit.
 *
 * The CPU, WebGPU and WebGL backends have kernels; on the others tfjs's ops do the work, on rows filled up to the longest.
 * What kernels look up about a layout stays on the backend until `layout.dispose()`.
 *
 * Source: Child et al., "Generating Long Sequences with Sparse Transformers" (2019), and the gradient of Dao et al.,
 * "FlashAttention" (2022), dS = P∘(dP − Σ P∘dP).
 *
 * ```js
 * const layout = tf.BlockLayout.butterflyAttention(256, {blockSize: 32, causal: true});
 * const [q, k, v] = [1, 2, 3].map(() => tf.randomNormal([8, 256, 64]));
 * const scores = tf.blockSparseMatMul(q, k, {layout, mode: 'sdd', transposeB: true});
 * const weights = tf.blockSparseSoftmax(scores, {layout, scale: 1 / Math.sqrt(64), causal: true});
 * const output = tf.blockSparseMatMul(weights, v, {layout, mode: 'dsd'});
 * console.log(output.shape); // [8, 256, 64]
 * ```
 *
 * @param values float32 [.., nnz, row size, column size], in the layout's order: those of all its heads.
 * @param options see {@link BlockSparseSoftmaxOptions}.
 * @returns the probabilities, shaped as values.
 * @throws Error that names the argument and shows shapes, if one does not fit.
 */
export const blockSparseSoftmax = /* @__PURE__ */ op({blockSparseSoftmax_}) as typeof blockSparseSoftmax_;
