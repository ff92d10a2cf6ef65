/** The ops `flashAttention` and `flashAttentionWithLse`. */
import {
  add,
  engine,
  log,
  type NamedAttrMap,
  op,
  type Rank,
  reshape,
  slice,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  Tensor as TensorClass,
  type TensorLike,
} from '@tensorflow/tfjs-core';
import {registerFallbackKernels} from '../../kernels/fallback/flash_attention.js';
import {asSavable} from '../gradients/savable_inputs.js';
import {FlashAttention} from '../kernel_names.js';
import {type FlashAttentionOptions, prepareAttention} from './attention_arguments.js';

export type {FlashAttentionOptions} from './attention_arguments.js';

/** What {@link flashAttentionWithLse} returns. */
export interface AttentionWithLse<T extends Tensor3D | Tensor4D = Tensor4D> {
  /** The attention output, as {@link flashAttention} returns it. */
  output: T;
  /**
   * [B, H, Sq] ([H, Sq] for rank 3), in either order: natural logarithm of Σ exp(score) over the visible keys of each
   * query row; the lowest finite float32 where a row sees none.
   */
  lse: T extends Tensor3D ? Tensor2D : Tensor3D;
}

/** The kernel's outputs, of rank 4. */
function attend(
  opName: string,
  lseHasGradient: boolean,
  q: Tensor | TensorLike,
  k: Tensor | TensorLike,
  v: Tensor | TensorLike,
  options: FlashAttentionOptions = {},
): {rank: 3 | 4; output: Tensor; softmaxStats: Tensor} {
  const {rank, inputs, attrs} = prepareAttention(opName, lseHasGradient, q, k, v, options);
  registerFallbackKernels(engine().backendName);
  const namedAttrs = attrs as unknown as NamedAttrMap;
  const [output, softmaxStats] = engine().runKernel(FlashAttention, asSavable(inputs), namedAttrs) as Tensor[];
  return {rank, output, softmaxStats};
}

/** Takes away the batch axis that a call without one was given. */
function withoutBatch(rank: 3 | 4, result: Tensor): Tensor {
  return rank === 4 ? result : reshape(result, result.shape.slice(1));
}

function flashAttention_<T extends Tensor3D | Tensor4D = Tensor4D>(
  q: T | Tensor | TensorLike,
  k: Tensor | TensorLike,
  v: Tensor | TensorLike,
  options?: FlashAttentionOptions,
): T {
  const {rank, output} = attend('flashAttention', false, q, k, v, options);
  return withoutBatch(rank, output) as T;
}

function flashAttentionWithLse_<T extends Tensor3D | Tensor4D = Tensor4D>(
  q: T | Tensor | TensorLike,
  k: Tensor | TensorLike,
  v: Tensor | TensorLike,
  options?: FlashAttentionOptions,
): AttentionWithLse<T> {
  const {rank, output, softmaxStats} = attend('flashAttentionWithLse', true, q, k, v, options);
  const [reference, sum] = [0, 1].map((i) => slice(softmaxStats, [0, 0, 0, i], [-1, -1, -1, 1]));
  const lse = reshape(add(reference, log(sum)), softmaxStats.shape.slice(0, 3));
  return {output: withoutBatch(rank, output), lse: withoutBatch(rank, lse)} as AttentionWithLse<T>;
}

/**
 * Exact attention, softmax(scale·q·kᵀ)·v, computed tile by tile so that the Sq × Sk score matrix never exists: memory
 * grows with S, not S². Differentiable with respect to q, k, v, `bias` and `alibiSlopes`; second-order gradients throw.
 *
 * A query row that sees no key gives 0 and takes no gradient.
 *
 * With Sq ≠ Sk, `causal` and `window` are aligned at the bottom right. For Sq = 2, Sk = 4 (■ visible), causal is
 *
 *     ■ ■ ■ ·
 *     ■ ■ ■ ■
 *
 * Source: Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (2022), algorithm 1
 * forward and algorithm 4 backward; tiling over queries after Dao, "FlashAttention-2" (2023); for few queries and many keys,
 * chunks of the keys side by side on WebGPU after Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference" (2023).
 *
 * ```js
 * const [B, H, S, D] = [2, 4, 100, 32];
 * const q = tf.randomNormal([B, H, S, D]);
 * const k = tf.randomNormal([B, H, S, D]);
 * const v = tf.randomNormal([B, H, S, D]);
 * const output = tf.flashAttention(q, k, v, {causal: true});
 * console.log(output.shape); // [2, 4, 100, 32]
 * ```
 *
 * With `layout`, attention is block-sparse (Dao et al. 2022, section 3.3), and goes over live blocks only:
 *
 * ```js
 * const layout = tf.BlockLayout.butterflyAttention(256, {blockSize: 32, causal: true});
 * const [q, k, v] = [1, 2, 3].map(() => tf.randomNormal([1, 2, 256, 16]));
 * console.log(tf.flashAttention(q, k, v, {layout, causal: true}).shape); // [1, 2, 256, 16]
 * layout.dispose();
 * ```
 *
 * @param q queries, [B, H, Sq, D] float32 ([B, Sq, H, D] with order 'BSHD'), or without B. D from 1 to 256.
 * @param k keys, [B, Hk, Sk, D] float32, where H is a multiple of Hk: query head h reads head floor(h·Hk/H).
 * @param v values, [B, Hk, Sk, Dv] float32. Dv from 1 to 256.
 * @param options see {@link FlashAttentionOptions}.
 * @returns [B, H, Sq, Dv] ([B, Sq, H, Dv] with order 'BSHD'), without B where q has none.
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export const flashAttention = /* @__PURE__ */ op({flashAttention_}) as typeof flashAttention_;

/**
 * {@link flashAttention} that also returns the log-sum-exp of each query row's scores, which is what merges attention
 * over several sets of keys. Differentiable through both results.
 *
 * ```js
 * const [q, k, v] = [1, 2, 3].map(() => tf.randomNormal([1, 2, 50, 16]));
 * const {output, lse} = tf.flashAttentionWithLse(q, k, v);
 * console.log(output.shape, lse.shape); // [1, 2, 50, 16] [1, 2, 50]
 * ```
 *
 * @param q queries, [B, H, Sq, D] float32, as in {@link flashAttention}.
 * @param k keys, [B, Hk, Sk, D] float32.
 * @param v values, [B, Hk, Sk, Dv] float32.
 * @param options see {@link FlashAttentionOptions}.
 * @returns the output [B, H, Sq, Dv] and lse [B, H, Sq] (natural logarithm, scale included).
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export const flashAttentionWithLse = /* @__PURE__ */ op({flashAttentionWithLse_}) as typeof flashAttentionWithLse_;

declare module '@tensorflow/tfjs-core/dist/tensor' {
  interface Tensor<R extends Rank = Rank> {
    /** Attention of these queries over `k` and `v`; see `flashAttention`. */
    flashAttention<T extends Tensor3D | Tensor4D>(
      this: T,
      k: Tensor | TensorLike,
      v: Tensor | TensorLike,
      options?: FlashAttentionOptions,
    ): T;
  }
}

/** Adds the chained form `q.flashAttention(k, v, options)` to every tensor. */
export function chainFlashAttention(): void {
  TensorClass.prototype.flashAttention = function (k, v, options) {
    return flashAttention(this, k, v, options);
  };
}
