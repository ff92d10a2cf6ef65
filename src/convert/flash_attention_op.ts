/** The op 'FlashAttention' of graph models that `useFlashAttention` has rewritten. */
import {add, expandDims, matMul, mul, softmax, squeeze, type Tensor, tidy, transpose} from '@tensorflow/tfjs-core';
import {MAX_DEPTH} from '../ops/attention_arguments.js';
import {flashAttention} from '../ops/flash_attention.js';
import type {AttrDef} from './graph_def.js';

/** The name of the op in the graph. */
export const FLASH_ATTENTION_OP = 'FlashAttention';

/** How the graph describes the op, whose inputs are q, k, v and, if there is one, the bias. */
export interface FlashAttentionOpAttrs {
  scale: number;
  /** Whether the last two axes are exchanged. */
  transpose_q: boolean;
  transpose_k: boolean;
  transpose_v: boolean;
  /** Whether q, k, v and the result are [B, S, H, D]; otherwise [.., S, D]. */
  bshd: boolean;
}

/** The attributes as a graph holds them. */
export function toAttrDefs({scale, ...flags}: FlashAttentionOpAttrs): Record<string, AttrDef> {
  const ofFlags = Object.entries(flags).map(([name, b]) => [name, {b}]);
  return {scale: {f: scale}, ...Object.fromEntries(ofFlags)};
}

/** What `tf.registerOp` takes; the same as in @tensorflow/tfjs-converter, which is not imported for it. */
export type RegisterOp = (
  name: string,
  op: (node: {inputs: Tensor[]; attrs: Record<string, unknown>}) => Tensor | Tensor[],
) => void;

/**
 * Makes the op known that graph models contain after {@link useFlashAttention}. `tfjs-flash/tf` and the bundle for script
 * tags do it themselves; it is for programs that import @tensorflow/tfjs-converter on its own.
 *
 * ```js
 * tf.registerFlashAttentionOp(tf.registerOp);
 * console.log(tf.version_converter);
 * ```
 *
 * @param registerOp of @tensorflow/tfjs-converter.
 */
export function registerFlashAttentionOp(registerOp: RegisterOp): void {
  registerOp(FLASH_ATTENTION_OP, ({inputs, attrs}) => attention(inputs, attrs as unknown as FlashAttentionOpAttrs));
}

function attention(inputs: Tensor[], attrs: FlashAttentionOpAttrs): Tensor {
  return tidy(() => {
    const {scale, bshd} = attrs;
    const straight = (x: Tensor, transposed: boolean) => (transposed ? exchangeAxes(x, x.rank - 2, x.rank - 1) : x);
    const q = straight(inputs[0], attrs.transpose_q);
    const k = straight(inputs[1], attrs.transpose_k);
    const v = straight(inputs[2], attrs.transpose_v);
    const bias = inputs[3] as Tensor | undefined;
    if (!fitsFlashAttention(q, k, v, bias, bshd)) return unfused(q, k, v, bias, attrs);
    const options = {scale, order: bshd ? ('BSHD' as const) : ('BHSD' as const), ...(bias && {bias})};
    if (q.rank > 2) return flashAttention(q, k, v, options);
    const [one, keys, values] = [q, k, v].map((x) => expandDims(x));
    return squeeze(flashAttention(one, keys, values, options), [0]);
  });
}

/**
 * Products broadcast over leading axes and sums over all of them, of any number. Shapes are not known before the model
 * runs, so what {@link flashAttention} does not take is computed as it was.
 */
function fitsFlashAttention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | undefined, bshd: boolean): boolean {
  const last = q.rank - 1;
  const rows = bshd ? 1 : last - 1;
  const isLikeQ = (x: Tensor, ...but: number[]) =>
    x.rank === q.rank && x.shape.every((size, axis) => but.includes(axis) || size === q.shape[axis]);
  const isTaken = ({dtype, shape}: Tensor) => dtype === 'float32' && shape[last] >= 1 && shape[last] <= MAX_DEPTH;
  const keys = k.shape[rows];
  const fits = q.rank <= 4 && isLikeQ(k, rows) && isLikeQ(v, rows, last) && v.shape[rows] === keys;
  if (!fits || ![q, k, v].every(isTaken)) return false;
  const scores = bshd ? ([q.shape[0], q.shape[2], q.shape[1], keys] as number[]) : [...q.shape.slice(0, -1), keys];
  return !bias || (bias.dtype === 'float32' && broadcastsTo(bias.shape, scores));
}

function broadcastsTo(shape: number[], target: number[]): boolean {
  const missing = target.length - shape.length;
  return missing >= 0 && shape.every((size, axis) => size === 1 || size === target[missing + axis]);
}

/** Attention by the ops that stood in the graph. */
function unfused(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  bias: Tensor | undefined,
  {scale, bshd}: FlashAttentionOpAttrs,
): Tensor {
  const ordered = (x: Tensor) => (bshd ? exchangeAxes(x, 1, 2) : x);
  const scores = mul(matMul(ordered(q), ordered(k), false, true), scale);
  return ordered(matMul(softmax(bias ? add(scores, bias) : scores), ordered(v)));
}

function exchangeAxes(x: Tensor, one: number, other: number): Tensor {
  const axes = x.shape.map((_, axis) => (axis === one ? other : axis === other ? one : axis));
  return transpose(x, axes);
}
