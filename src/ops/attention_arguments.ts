/**
 * What `flashAttention` accepts, and the sentences it says about anything else. Everything is checked here, on the
 * host, before a kernel runs.
 */
import {
  type DataStorage,
  engine,
  expandDims,
  type KernelBackend,
  type NamedTensorMap,
  reshape,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  Tensor as TensorClass,
  type TensorLike,
  tensor,
} from '@tensorflow/tfjs-core';
import type {AttentionOrder, AttentionPrecision, FlashAttentionAttrs} from '../kernel_names.js';
import {BlockLayout} from '../sparsity/block_layout.js';
import {knownLargest, rememberLargest} from './known_lengths.js';

export const MAX_DEPTH = 256;

/** Options of `flashAttention` and `flashAttentionWithLse`. They compose; each default leaves attention plain. */
export interface FlashAttentionOptions {
  /** Factor on q·k. Finite, not negative. Default 1/√D. */
  scale?: number;
  /** Key j is visible to query i iff j ≤ i + Sk − Sq (aligned bottom-right). Default false. */
  causal?: boolean;
  /**
   * [left, right]: key j is visible to query i iff i + Sk − Sq − left ≤ j ≤ i + Sk − Sq + right; −1 sets no limit on
   * that side. With `causal`, right is at most 0.
   */
  window?: [left: number, right: number];
  /** Scores s become softcap·tanh(s / softcap), as in Gemma 2. 0 (the default) switches it off. */
  softcap?: number;
  /** [H] or [B, H] float32: adds −slope·|i + Sk − Sq − j| to the scores (ALiBi). Differentiable. */
  alibiSlopes?: Tensor1D | Tensor2D | TensorLike;
  /** float32, broadcast to [B, H, Sq, Sk] but never copied to that shape: added to the scores. Differentiable. */
  bias?: Tensor | TensorLike;
  /** bool, broadcast to [B, H, Sq, Sk] but never copied to that shape: true where the key is visible. */
  mask?: Tensor | TensorLike;
  /**
   * int32 [B]: query rows that exist in each sample; the others give 0. Values that are only on a GPU are not read back:
   * there, more than Sq counts as Sq.
   */
  queryLengths?: Tensor1D | TensorLike;
  /**
   * int32 [B]: keys that exist in each sample; the others are invisible. Values that are only on a GPU are not read
   * back: there, more than Sk counts as Sk.
   */
  keyLengths?: Tensor1D | TensorLike;
  /**
   * Block-sparse attention: key j is visible to query i only if the layout's block at (floor(i / row size), floor(j /
   * column size)) is live. Its grid covers [Sq, Sk], and it has one pattern for all heads or H. On WebGPU and WebGL
   * time and memory are those of the live blocks; multiples of 64 fit the kernels of WebGPU best, even sizes those of WebGL.
   */
  layout?: BlockLayout;
  /** Axis order of q, k, v and the output: 'BHSD' (default) or 'BSHD'; both are read in place. */
  order?: AttentionOrder;
  /**
   * Drops each attention probability with probability `rate` in [0, 1) and divides the rest by 1 − rate. `seed` (an
   * integer; random if absent) fixes which: the same ones on every backend, and in the backward pass.
   */
  dropout?: {rate: number; seed?: number};
  /**
   * 'highest' (default): float32 throughout. 'fast': with D and Dv up to 128, on a device of `registerFlashBackend` that
   * multiplies matrices of float16 with float32 sums (the experimental 'chromium-experimental-subgroup-matrix'), q, k, v,
   * probabilities and their gradients are rounded to float16 before they are multiplied; everywhere else it is 'highest'.
   * Each rounding is off by up to 2⁻¹¹ of the number. Of random normal inputs, S 4096, the output was off by 5·10⁻⁴ of its
   * largest value, gradients by 1.2·10⁻³. Elements of q, k and v must stay within ±65504; gradients are scaled and need not.
   */
  precision?: AttentionPrecision;
}

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof FlashAttentionOptions>([
  'scale',
  'causal',
  'window',
  'softcap',
  'alibiSlopes',
  'bias',
  'mask',
  'queryLengths',
  'keyLengths',
  'layout',
  'order',
  'dropout',
  'precision',
]);

/** The arguments of one call, checked, as the kernels want them. */
export interface AttentionCall {
  /** Rank of q as the caller gave it; inputs below are always rank 4. */
  rank: 3 | 4;
  inputs: NamedTensorMap;
  attrs: FlashAttentionAttrs;
}

interface Sizes {
  B: number;
  H: number;
  Sq: number;
  Sk: number;
}

/**
 * Checks the arguments of the op called `opName` and brings them to kernel form. Must run inside that op's scope, which
 * disposes the tensors made here.
 */
export function prepareAttention(
  opName: string,
  lseHasGradient: boolean,
  q: Tensor | TensorLike,
  k: Tensor | TensorLike,
  v: Tensor | TensorLike,
  options: FlashAttentionOptions,
): AttentionCall {
  const fail: Fail = (message) => {
    throw new Error(`${opName}: ${message}`);
  };
  for (const name of Object.keys(options)) {
    if (!OPTION_NAMES.has(name)) {
      fail(`unknown option '${name}'; the options are ${[...OPTION_NAMES].join(', ')}.`);
    }
  }
  const order = options.order ?? 'BHSD';
  if (order !== 'BHSD' && order !== 'BSHD') fail(`order must be 'BHSD' or 'BSHD', got '${order}'.`);

  const matrices = {q: toTensor(fail, 'q', q), k: toTensor(fail, 'k', k), v: toTensor(fail, 'v', v)};
  const sizes = checkMatrices(fail, matrices, order);
  const inputs: NamedTensorMap = {
    q: toRank4(matrices.q),
    k: toRank4(matrices.k),
    v: toRank4(matrices.v),
    ...optionalInputs(fail, options, sizes),
  };
  return {
    rank: matrices.q.rank as 3 | 4,
    inputs,
    attrs: {
      ...numericAttrs(fail, options, inputs.q.shape[3] as number),
      order,
      layout: checkLayout(fail, options.layout, sizes),
      lseHasGradient,
      taped: engine().state.gradientDepth > 0,
      mostKeys: knownLargest(inputs.keyLengths) ?? sizes.Sk,
      inputNames: Object.keys(inputs),
    },
  };
}

type Fail = (message: string) => never;

function toTensor(fail: Fail, name: string, value: Tensor | TensorLike, dtype?: 'bool' | 'int32'): Tensor {
  if (value instanceof TensorClass) return value;
  if (value === null || value === undefined) fail(`${name} must be a tensor or an array of numbers, got ${value}.`);
  return tensor(value, undefined, dtype);
}

function checkMatrices(fail: Fail, {q, k, v}: Record<'q' | 'k' | 'v', Tensor>, order: AttentionOrder): Sizes {
  const got = `got q ${show(q)}, k ${show(k)}, v ${show(v)} (order '${order}')`;
  const named = {q, k, v};
  const layout = order === 'BHSD' ? '[B, H, S, D] or [H, S, D]' : '[B, S, H, D] or [S, H, D]';
  for (const [name, t] of Object.entries(named)) {
    if (t.rank !== 3 && t.rank !== 4) fail(`${name} must have rank 3 or 4, ${layout}; ${got}.`);
    if (t.rank !== q.rank) fail(`${name} must have the same rank as q; ${got}.`);
    if (t.dtype !== 'float32') fail(`${name} must have dtype float32, got ${t.dtype}; ${got}.`);
  }
  const split = (t: Tensor) => {
    const [batch, x, y, depth] = t.rank === 3 ? [1, ...t.shape] : t.shape;
    return order === 'BHSD' ? {batch, heads: x, rows: y, depth} : {batch, heads: y, rows: x, depth};
  };
  const [sq, sk, sv] = [split(q), split(k), split(v)];
  if (sk.batch !== sq.batch) fail(`k must have q's batch size B = ${sq.batch}; ${got}.`);
  if (sv.batch !== sq.batch) fail(`v must have q's batch size B = ${sq.batch}; ${got}.`);
  if (sk.depth !== sq.depth) fail(`k must have q's head dimension D = ${sq.depth}; ${got}.`);
  if (sv.heads !== sk.heads) fail(`v must have k's number of heads Hk = ${sk.heads}; ${got}.`);
  if (sv.rows !== sk.rows) fail(`v must have k's sequence length Sk = ${sk.rows}; ${got}.`);
  const multiple = sk.heads === 0 ? sq.heads === 0 : sq.heads % sk.heads === 0;
  if (!multiple) fail(`q's number of heads H = ${sq.heads} must be a multiple of k's Hk = ${sk.heads}; ${got}.`);
  for (const [name, depth] of [
    ['q', sq.depth],
    ['v', sv.depth],
  ] as const) {
    if (depth < 1 || depth > MAX_DEPTH) {
      fail(`the head dimension (last axis) of ${name} must be from 1 to ${MAX_DEPTH}, got ${depth}; ${got}.`);
    }
  }
  return {B: sq.batch, H: sq.heads, Sq: sq.rows, Sk: sk.rows};
}

/** The tensors among the options, under the kernels' names; absent ones have no key. */
function optionalInputs(fail: Fail, options: FlashAttentionOptions, sizes: Sizes): NamedTensorMap {
  const {B, H} = sizes;
  const inputs: NamedTensorMap = {};
  if (options.bias !== undefined) inputs.bias = broadcastInput(fail, 'bias', options.bias, 'float32', sizes);
  if (options.mask !== undefined) inputs.mask = broadcastInput(fail, 'mask', options.mask, 'bool', sizes);
  if (options.alibiSlopes !== undefined) {
    const slopes = toTensor(fail, 'alibiSlopes', options.alibiSlopes);
    checkDtype(fail, 'alibiSlopes', slopes, 'float32');
    const shape = slopes.rank === 1 ? [1, ...slopes.shape] : slopes.shape;
    if (shape.length !== 2 || shape[1] !== H || (shape[0] !== B && slopes.rank !== 1)) {
      fail(`alibiSlopes must have shape [H] = [${H}] or [B, H] = [${B}, ${H}], got ${show(slopes)}.`);
    }
    inputs.alibiSlopes = slopes.rank === 1 ? expandDims(slopes, 0) : slopes;
  }
  if (options.queryLengths !== undefined) {
    inputs.queryLengths = lengthsInput(fail, 'queryLengths', options.queryLengths, B, 'Sq', sizes.Sq);
  }
  if (options.keyLengths !== undefined) {
    inputs.keyLengths = lengthsInput(fail, 'keyLengths', options.keyLengths, B, 'Sk', sizes.Sk);
  }
  return inputs;
}

function broadcastInput(
  fail: Fail,
  name: string,
  value: Tensor | TensorLike,
  dtype: 'float32' | 'bool',
  {B, H, Sq, Sk}: Sizes,
): Tensor {
  const t = toTensor(fail, name, value, dtype === 'bool' ? 'bool' : undefined);
  checkDtype(fail, name, t, dtype);
  const target = [B, H, Sq, Sk];
  const shape = [...Array(Math.max(0, 4 - t.rank)).fill(1), ...t.shape];
  if (shape.length !== 4 || shape.some((size, axis) => size !== 1 && size !== target[axis])) {
    fail(`${name} must broadcast to [B, H, Sq, Sk] = [${target.join(', ')}], got ${show(t)}.`);
  }
  return t.rank === 4 ? t : reshape(t, shape);
}

function lengthsInput(
  fail: Fail,
  name: string,
  value: Tensor | TensorLike,
  batch: number,
  limitName: string,
  limit: number,
): Tensor {
  const t = toTensor(fail, name, value, 'int32');
  checkDtype(fail, name, t, 'int32');
  if (t.rank !== 1 || t.shape[0] !== batch) fail(`${name} must have shape [B] = [${batch}], got ${show(t)}.`);
  const values = hostValues(t);
  for (let i = 0; values && i < values.length; i++) {
    if (!(values[i] >= 0 && values[i] <= limit)) {
      fail(`${name} must lie between 0 and ${limitName} = ${limit}, got ${values[i]} for sample ${i}.`);
    }
  }
  if (values) rememberLargest(t, Math.max(0, ...Array.from(values)));
  return t;
}

/**
 * The values of a tensor if they are on the host, as those of a tensor made from numbers are until a kernel first uses
 * it; reading them back from a GPU would stall it.
 */
function hostValues(t: Tensor): ArrayLike<number> | null {
  const backend = engine().backend as GpuBackend;
  const storage = backend.tensorMap ?? backend.texData;
  return storage ? storage.get(t.dataId).values : t.dataSync();
}

/** Where tfjs's WebGPU and WebGL backends keep track of tensors; other backends have their values on the host. */
interface GpuBackend extends KernelBackend {
  tensorMap?: DataStorage<{values: ArrayLike<number> | null}>;
  texData?: DataStorage<{values: ArrayLike<number> | null}>;
}

function checkLayout(fail: Fail, layout: BlockLayout | undefined, {H, Sq, Sk}: Sizes): BlockLayout | null {
  if (layout === undefined) return null;
  if (!(layout instanceof BlockLayout)) fail(`layout must be a BlockLayout, got ${layout}.`);
  const {rowBlocks, colBlocks, heads, blockSize} = layout;
  const needed = [Math.ceil(Sq / blockSize[0]), Math.ceil(Sk / blockSize[1])];
  const isEmpty = Sq === 0 || Sk === 0;
  if (!isEmpty && (rowBlocks !== needed[0] || colBlocks !== needed[1])) {
    fail(
      `layout must have ${needed.join(' × ')} blocks of ${blockSize.join(' × ')} to cover [Sq, Sk] = [${Sq}, ${Sk}], ` +
        `got ${rowBlocks} × ${colBlocks}.`,
    );
  }
  if (heads !== 1 && heads !== H)
    fail(`layout must have one pattern, or one for each of H = ${H} heads, got ${heads}.`);
  return layout;
}

function numericAttrs(fail: Fail, options: FlashAttentionOptions, depth: number) {
  const {scale = 1 / Math.sqrt(depth), softcap = 0, causal = false, window = [-1, -1], precision = 'highest'} = options;
  if (!(Number.isFinite(scale) && scale >= 0))
    fail(`scale must be a finite number that is not negative, got ${scale}.`);
  if (!(Number.isFinite(softcap) && softcap >= 0)) {
    fail(`softcap must be a finite number that is not negative, got ${softcap}.`);
  }
  if (typeof causal !== 'boolean') fail(`causal must be true or false, got ${causal}.`);
  if (!Array.isArray(window) || window.length !== 2 || !window.every((n) => Number.isInteger(n) && n >= -1)) {
    fail(`window must be [left, right], two integers from −1 (no limit) up, got [${window}].`);
  }
  checkPrecision(fail, precision);
  const [left, right] = window;
  return {scale, softcap, left, right: causal ? 0 : right, precision, ...dropoutAttrs(fail, options)};
}

/** The check of `precision`, which the layer makes when it is built. */
export function checkPrecision(fail: Fail, precision: AttentionPrecision): void {
  if (precision !== 'highest' && precision !== 'fast')
    fail(`precision must be 'highest' or 'fast', got '${precision}'.`);
}

function dropoutAttrs(fail: Fail, {dropout}: FlashAttentionOptions) {
  if (dropout === undefined) return {dropoutRate: 0, dropoutSeed: 0};
  const {rate, seed = Math.floor(Math.random() * 2 ** 32)} = dropout;
  if (!(rate >= 0 && rate < 1)) fail(`dropout.rate must be at least 0 and below 1, got ${rate}.`);
  if (!Number.isInteger(seed)) fail(`dropout.seed must be an integer, got ${seed}.`);
  return {dropoutRate: rate, dropoutSeed: seed >>> 0};
}

function checkDtype(fail: Fail, name: string, t: Tensor, dtype: string): void {
  if (t.dtype !== dtype) fail(`${name} must have dtype ${dtype}, got ${t.dtype} with shape ${show(t)}.`);
}

function toRank4(t: Tensor): Tensor {
  return t.rank === 4 ? t : expandDims(t, 0);
}

function show(t: Tensor): string {
  return `[${t.shape.join(', ')}]`;
}
