/**
 * dS, the gradient of the scores, passed on: the kernel that makes dK and dV stores it, and dQ is then a product of it and the
 * keys (stored_gradient_wgsl.ts), where it would otherwise make scores and their gradient anew: five products in place of
 * seven. Memory stays linear, because no more matrices do so at once than fit into a buffer no larger than the call's inputs.
 */
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {threadGrid} from './tile_sizes.js';

/** Score matrices [first, first + count), of keys' heads or of queries'. */
export interface MatrixGroup {
  first: number;
  count: number;
}

/**
 * Which tiles of a head's dS there is room for; rows are keys. Under a causal mask those of the upper triangle are enough, and
 * under a window that is closed on both sides a band along the diagonal.
 */
export interface StoredTiles {
  shape: 'full' | 'triangle' | 'band';
  /** Tiles of the whole matrix. */
  down: number;
  across: number;
  /** Tiles of a row of tiles, the first in a triangle. */
  pitch: number;
  /** Tiles of a band that each row has before the diagonal. */
  before: number;
  /** Tiles of a head. */
  count: number;
}

/** How dS is passed on: what is stored of each head, and which matrices of keys do so at once. */
export interface StoredPlan {
  tiles: StoredTiles;
  groups: MatrixGroup[];
}

/**
 * Bytes of dS at once, and how many invocations a group must have: with fewer, parts of a large GPU have no work; under a window
 * those are many, whose work is uneven, and need more room. `inputShare` is what the buffer may take of the size of the inputs.
 * Replaced by tests.
 */
export const storedGradientLimits = {
  full: {bytes: 2 ** 28, invocations: 3 * 2 ** 13},
  windowed: {bytes: 5 * 2 ** 26, invocations: 2 ** 16},
  inputShare: 1,
};

/** Deeper heads' sums do not fit into registers. */
const MOST_DEPTH = 128;

type Lengths = Pick<FlashAttentionInputs, 'queryLengths' | 'keyLengths'>;
type Window = Pick<FlashAttentionAttrs, 'left' | 'right'>;

/** What is stored of each head. Only where queries are as many as keys is it known that the diagonal goes from tile to tile. */
export function storedTiles(
  {rows, columns}: OuterTile,
  {queryLengths, keyLengths}: Lengths,
  {left, right}: Window,
  {queries, keys}: AttentionSizes,
): StoredTiles {
  const [down, across] = [Math.ceil(keys / rows), Math.ceil(queries / columns)];
  const full: StoredTiles = {shape: 'full', down, across, pitch: across, before: 0, count: down * across};
  if (queries !== keys || rows !== columns || queryLengths || keyLengths || right < 0) return full;
  // Key k is seen by queries k − right to k + left.
  const [before, after] = [right, left < 0 ? queries : left].map((reach) => Math.ceil(reach / rows));
  const pitch = before + 1 + after;
  const band: StoredTiles = {...full, shape: 'band', pitch, before, count: down * pitch};
  const triangle: StoredTiles = {...full, shape: 'triangle', count: (down * (down + 1)) / 2};
  return [full, ...(right === 0 ? [triangle] : []), band].reduce((a, b) => (b.count < a.count ? b : a));
}

/** The buffer's shape for one matrix of keys: once for each query head that shares them. */
export function storedShape(
  {rows, columns}: OuterTile,
  {heads, keyHeads}: AttentionSizes,
  {count}: StoredTiles,
): number[] {
  return [heads / keyHeads, count, rows, columns];
}

/** The groups of matrices of keys, of about the same size; undefined where dS is better made twice. */
export function planStored(
  {limits}: GPUDevice,
  tile: OuterTile,
  lengths: Lengths,
  {layout, left, right}: FlashAttentionAttrs,
  sizes: AttentionSizes,
): StoredPlan | undefined {
  const {batch, heads, keyHeads, queries, keys, depth, valueDepth} = sizes;
  if (layout || depth > MOST_DEPTH) return undefined;
  const bytesOf = (shape: number[]) => 4 * shape.reduce((product, size) => product * size, 1);
  // q, output, dOutput, k and v.
  const inputs = batch * (heads * queries * (depth + 2 * valueDepth) + keyHeads * keys * (depth + valueDepth));
  const {full, windowed, inputShare} = storedGradientLimits;
  const {bytes, invocations} = left < 0 && right < 0 ? full : windowed;
  const most = Math.min(
    bytes,
    inputShare * bytesOf([inputs]),
    limits.maxStorageBufferBindingSize,
    limits.maxBufferSize,
  );
  const tiles = storedTiles(tile, lengths, {left, right}, sizes);
  const matrices = batch * keyHeads;
  const atOnce = Math.floor(most / bytesOf(storedShape(tile, sizes, tiles)));
  if (atOnce === 0) return undefined;
  const groups = Math.ceil(matrices / atOnce);
  const count = Math.ceil(matrices / groups);
  if (groups > 1 && count * tiles.down * threadGrid(tile).threads < invocations) return undefined;
  return {
    tiles,
    groups: Array.from({length: Math.ceil(matrices / count)}, (_, group) => ({
      first: group * count,
      count: Math.min(count, matrices - group * count),
    })),
  };
}
