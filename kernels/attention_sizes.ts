/** The sizes and memory strides of one attention call, read off its tensors once for the kernels of every backend. */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {AttentionOrder, FlashAttentionAttrs, FlashAttentionInputs} from '../src/kernel_names.js';

export interface AttentionSizes {
  /** B */
  batch: number;
  /** H */
  heads: number;
  /** Hk; heads is a multiple of it. */
  keyHeads: number;
  /** Sq */
  queries: number;
  /** Sk */
  keys: number;
  /** D */
  depth: number;
  /** Dv */
  valueDepth: number;
}

export function attentionSizes(inputs: FlashAttentionInputs, order: AttentionOrder): AttentionSizes {
  const [headAxis, rowAxis] = order === 'BHSD' ? [1, 2] : [2, 1];
  const {q, k, v} = inputs;
  return {
    batch: q.shape[0],
    heads: q.shape[headAxis],
    keyHeads: k.shape[headAxis],
    queries: q.shape[rowAxis],
    keys: k.shape[rowAxis],
    depth: q.shape[3],
    valueDepth: v.shape[3],
  };
}

/** Shape of a [B, heads, rows, columns] tensor in the call's order. */
export function shapeInOrder(
  order: AttentionOrder,
  batch: number,
  heads: number,
  rows: number,
  columns: number,
): [number, number, number, number] {
  return order === 'BHSD' ? [batch, heads, rows, columns] : [batch, rows, heads, columns];
}

/** Elements between neighbours along each logical axis of a [B, heads, rows, columns] tensor in the call's order. */
export interface RowStrides {
  batch: number;
  head: number;
  row: number;
}

export function rowStrides(order: AttentionOrder, heads: number, rows: number, columns: number): RowStrides {
  return {
    batch: heads * rows * columns,
    head: order === 'BHSD' ? rows * columns : columns,
    row: order === 'BHSD' ? columns : heads * columns,
  };
}

/** Strides of a bias or mask over (batch, head, query, key); 0 along broadcast axes. */
export function broadcastStrides(tensor: TensorInfo): [number, number, number, number] {
  const strides: [number, number, number, number] = [0, 0, 0, 0];
  for (let axis = 3, stride = 1; axis >= 0; axis--) {
    if (tensor.shape[axis] !== 1) strides[axis] = stride;
    stride *= tensor.shape[axis];
  }
  return strides;
}

/** Dropped probabilities are those whose 32 random bits lie below this. */
export function dropoutThreshold(rate: number): number {
  return Math.floor(rate * 2 ** 32);
}

/** Whether every row sees every key: nothing to mask but the ragged edge of a tile. */
export function seesEverything(inputs: FlashAttentionInputs, attrs: FlashAttentionAttrs): boolean {
  return attrs.left < 0 && attrs.right < 0 && !inputs.mask && !inputs.keyLengths && !inputs.queryLengths;
}
