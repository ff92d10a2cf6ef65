/** One attention call as the fallback kernels compute it: tensors in BHSD order, everything of rank 4. */
import {
  cast,
  clipByValue,
  matMul,
  mul,
  type Rank,
  reshape,
  slice,
  stack,
  type Tensor2D,
  type Tensor4D,
  type TensorInfo,
  transpose,
  unstack,
} from '@tensorflow/tfjs-core';
import type {AttentionOrder, FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, attentionSizes} from '../attention_sizes.js';
import {asTensor} from './as_tensor.js';
import type {QueryChunk} from './query_chunks.js';

export interface AttentionProblem {
  sizes: AttentionSizes;
  attrs: FlashAttentionAttrs;
  /** [B, H, Sq, D], times scale. */
  scaledQ: Tensor4D;
  /** [B, Hk, Sk, D] */
  k: Tensor4D;
  /** The [D, Sk] matrices of k; see {@link matrices}. */
  kTransposed: Tensor2D[];
  /** [B, Hk, Sk, Dv] */
  v: Tensor4D;
  /** [1|B, 1|H, 1|Sq, 1|Sk] */
  bias?: Tensor4D;
  /** [1|B, 1|H, 1|Sq, 1|Sk] bool */
  mask?: Tensor4D;
  /** [1|B, H, 1, 1] */
  alibiSlopes?: Tensor4D;
  /** [B, 1, 1, 1] float32, from 0 to Sq. */
  queryLengths?: Tensor4D;
  /** [B, 1, 1, 1] float32, from 0 to Sk. */
  keyLengths?: Tensor4D;
}

export function attentionProblem(inputs: FlashAttentionInputs, attrs: FlashAttentionAttrs): AttentionProblem {
  const sizes = attentionSizes(inputs, attrs.order);
  const {q, k, v, bias, mask, alibiSlopes, queryLengths, keyLengths} = inputs;
  const orderedK = exchangeOrder(k, attrs.order);
  return {
    sizes,
    attrs,
    scaledQ: mul(exchangeOrder(q, attrs.order), attrs.scale),
    k: orderedK,
    kTransposed: matrices(transposeMatrices(orderedK)),
    v: exchangeOrder(v, attrs.order),
    bias: bias && asTensor(bias),
    mask: mask && asTensor(mask),
    alibiSlopes: alibiSlopes && reshape(asTensor(alibiSlopes), [alibiSlopes.shape[0], sizes.heads, 1, 1]),
    queryLengths: queryLengths && perSample(queryLengths, sizes.queries),
    keyLengths: keyLengths && perSample(keyLengths, sizes.keys),
  };
}

/** From the call's order to BHSD, or back: exchanging two axes is its own inverse. */
export function exchangeOrder(t: TensorInfo, order: AttentionOrder): Tensor4D {
  const tensor = asTensor<Rank.R4>(t);
  return order === 'BHSD' ? tensor : transpose(tensor, [0, 2, 1, 3]);
}

/** The chunk's rows of a [.., .., Sq, ..] tensor, or all of one that is broadcast over the queries. */
export function rowsOf(t: Tensor4D, {begin, rows}: QueryChunk): Tensor4D {
  return t.shape[2] === 1 ? t : slice(t, [0, 0, begin, 0], [-1, -1, rows, -1]);
}

/**
 * [B, H, rows, X] → [B, Hk, H/Hk·rows, X]: the query heads that share a key/value head become rows of one matrix, so
 * that k and v need not be repeated for each of them.
 */
export function groupHeads(t: Tensor4D, {batch, heads, keyHeads}: AttentionSizes): Tensor4D {
  return reshape(t, [batch, keyHeads, (heads / keyHeads) * t.shape[2], t.shape[3]]);
}

/** The inverse of {@link groupHeads}. */
export function ungroupHeads(t: Tensor4D, {batch, heads, keyHeads}: AttentionSizes): Tensor4D {
  return reshape(t, [batch, heads, (t.shape[2] * keyHeads) / heads, t.shape[3]]);
}

/** The matrices of the last two axes, over batch and heads. */
export function matrices(t: Tensor4D): Tensor2D[] {
  const [batch, heads, rows, columns] = t.shape;
  return unstack(reshape(t, [batch * heads, rows, columns])) as Tensor2D[];
}

export function transposeMatrices(t: Tensor4D): Tensor4D {
  return transpose(t, [0, 1, 3, 2]);
}

/**
 * [B, H, M, N] times a matrix [N, P] for each batch and head. One by one and never with a transposed operand, because
 * the wasm backend multiplies single plain matrices some ten times faster than batches and transposed ones.
 */
export function matMulEach(left: Tensor4D, right: Tensor2D[]): Tensor4D {
  const products = matrices(left).map((matrix, i) => matMul(matrix, right[i]));
  return reshape(stack(products), [...left.shape.slice(0, 3), right[0].shape[1]] as Tensor4D['shape']);
}

function perSample(lengths: TensorInfo, size: number): Tensor4D {
  const clamped = clipByValue(cast(asTensor(lengths), 'float32'), 0, size);
  return reshape(clamped, [lengths.shape[0], 1, 1, 1]);
}
