/** Random inputs of an {@link AttentionCase}, as host arrays, and what they are for the op and for the oracle. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {shapeInOrder} from '../kernels/attention_sizes.js';
import type {AttentionProblem, Broadcast} from '../kernels/cpu/attention_rows.js';
import {BlockLayout, type FlashAttentionOptions} from '../src/index.js';
import type {FlashAttentionAttrs} from '../src/kernel_names.js';
import type {AttentionCase} from './attention_cases.js';

/** A tensor on the host. */
export interface HostTensor {
  shape: number[];
  values: Float32Array;
}

export interface HostInputs {
  q: HostTensor;
  k: HostTensor;
  v: HostTensor;
  bias?: HostTensor;
  mask?: HostTensor;
  alibiSlopes?: HostTensor;
  /** Weights of output and lse in the scalar whose gradient is tested. */
  outputWeights: HostTensor;
  lseWeights: HostTensor;
}

/** Names of the differentiable inputs, in the order in which gradients are asked for. */
export type Differentiable = 'q' | 'k' | 'v' | 'bias' | 'alibiSlopes';

export function differentiableInputs(inputs: HostInputs): Differentiable[] {
  const names: Differentiable[] = ['q', 'k', 'v', 'bias', 'alibiSlopes'];
  return names.filter((name) => inputs[name] !== undefined);
}

export function makeInputs(attentionCase: AttentionCase, seed = 1): HostInputs {
  const {B, H, Hk, Sq, Sk, D, Dv, order = 'BHSD', rank3, gain = [1, 1, 1], bias, mask, alibi} = attentionCase;
  const normal = new MPRandGauss(0, 1, 'float32', false, seed);
  const random = (shape: number[], map: (x: number) => number = (x) => x): HostTensor => ({
    shape,
    values: Float32Array.from({length: tf.util.sizeFromShape(shape)}, () => map(normal.nextValue())),
  });
  const matrix = (heads: number, rows: number, columns: number, factor: number) => {
    const shape = shapeInOrder(order, B, heads, rows, columns);
    return random(rank3 ? shape.slice(1) : shape, (x) => x * factor);
  };
  const lseShape = rank3 ? [H, Sq] : [B, H, Sq];
  return {
    q: matrix(H, Sq, D, gain[0]),
    k: matrix(Hk, Sk, D, gain[1]),
    v: matrix(Hk, Sk, Dv, gain[2]),
    ...(bias !== undefined && {bias: random(broadcastShape(attentionCase, bias))}),
    // Mostly visible, and with some rows that see nothing.
    ...(mask !== undefined && {mask: random(broadcastShape(attentionCase, mask), (x) => Number(x > -0.7))}),
    ...(alibi && {alibiSlopes: random(alibi === 'H' ? [H] : [B, H], (x) => Math.abs(x) / 4)}),
    outputWeights: matrix(H, Sq, Dv, 1),
    lseWeights: random(lseShape),
  };
}

/** Trailing axes only, as broadcasting allows: 'K' is [Sk], 'HQ' is [H, Sq, 1]. */
function broadcastShape({B, H, Sq, Sk}: AttentionCase, axes: string): number[] {
  const shape = [
    ['B', B],
    ['H', H],
    ['Q', Sq],
    ['K', Sk],
  ].map(([letter, size]) => (axes.includes(letter as string) ? (size as number) : 1));
  const first = shape.findIndex((size) => size !== 1);
  return first < 0 ? [1] : shape.slice(first);
}

/** The layout of a case; always the same object for the same case, so that it can be disposed of. */
export function layoutOf(attentionCase: AttentionCase): BlockLayout | undefined {
  const {layout, H, Sq, Sk} = attentionCase;
  if (!layout) return undefined;
  const known = madeLayouts.get(attentionCase);
  if (known) return known;
  const {blockSize, density, perHead} = layout;
  const [rowBlocks, colBlocks] = [Math.ceil(Sq / blockSize[0]), Math.ceil(Sk / blockSize[1])];
  const isLive = (row: number, col: number, head: number) => {
    const noise = 43758.5453 * Math.sin(12.9898 * row + 78.233 * col + 37.719 * head + 1);
    return noise - Math.floor(noise) < density;
  };
  const made = BlockLayout.from({rowBlocks, colBlocks, blockSize, heads: perHead ? H : 1, isLive});
  madeLayouts.set(attentionCase, made);
  return made;
}

const madeLayouts = new WeakMap<AttentionCase, BlockLayout>();

/** The options of the op, with tensors on the active backend. */
export function opOptions(attentionCase: AttentionCase, inputs: HostInputs): FlashAttentionOptions {
  const {causal, window, softcap, scale, order, dropout, precision, queryLengths, keyLengths} = attentionCase;
  const {bias, mask, alibiSlopes} = inputs;
  return {
    ...(causal !== undefined && {causal}),
    ...(window && {window}),
    ...(softcap !== undefined && {softcap}),
    ...(scale !== undefined && {scale}),
    ...(order && {order}),
    ...(dropout && {dropout}),
    ...(precision && {precision}),
    ...(attentionCase.layout && {layout: layoutOf(attentionCase)}),
    ...(queryLengths && {queryLengths: tf.tensor1d(queryLengths, 'int32')}),
    ...(keyLengths && {keyLengths: tf.tensor1d(keyLengths, 'int32')}),
    ...(bias && {bias: toTensor(bias)}),
    ...(mask && {mask: toTensor(mask).toBool()}),
    ...(alibiSlopes && {alibiSlopes: toTensor(alibiSlopes) as tf.Tensor1D}),
  };
}

export function toTensor({values, shape}: HostTensor): tf.Tensor {
  return tf.tensor(values, shape, 'float32');
}

/** The call as the float64 oracle takes it. */
export function oracleProblem(attentionCase: AttentionCase, inputs: HostInputs): AttentionProblem {
  const {B, H, Hk, Sq, Sk, D, Dv, queryLengths, keyLengths} = attentionCase;
  const {q, k, v, bias, mask, alibiSlopes} = inputs;
  return {
    sizes: {batch: B, heads: H, keyHeads: Hk, queries: Sq, keys: Sk, depth: D, valueDepth: Dv},
    attrs: oracleAttrs(attentionCase),
    q: q.values,
    k: k.values,
    v: v.values,
    bias: bias && broadcast(bias),
    mask: mask && broadcast(mask),
    alibiSlopes: alibiSlopes && {values: alibiSlopes.values, batchStride: alibiSlopes.shape.length === 1 ? 0 : H},
    queryLengths,
    keyLengths,
  };
}

function oracleAttrs(attentionCase: AttentionCase): FlashAttentionAttrs {
  const {
    D,
    Sk,
    causal,
    window = [-1, -1],
    softcap = 0,
    scale = 1 / Math.sqrt(D),
    order = 'BHSD',
    dropout,
  } = attentionCase;
  return {
    scale,
    softcap,
    left: window[0],
    right: causal ? 0 : window[1],
    dropoutRate: dropout?.rate ?? 0,
    dropoutSeed: dropout?.seed ?? 0,
    order,
    precision: 'highest',
    layout: layoutOf(attentionCase) ?? null,
    lseHasGradient: true,
    taped: true,
    mostKeys: Sk,
    inputNames: [],
  };
}

function broadcast({values, shape}: HostTensor): Broadcast {
  const strides: [number, number, number, number] = [0, 0, 0, 0];
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1) strides[axis + 4 - shape.length] = stride;
    stride *= shape[axis];
  }
  return {values, strides};
}
