/** What an attention kernel goes over, by which the sizes of its tiles are chosen. */
import type {FlashAttentionAttrs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import type {AttentionVariant} from './attention_wgsl.js';
import type {TiledKernel} from './tile_sizes.js';

/** Kernels whose workgroups take the rows of a tile through all columns: rows of queries, or in the last of keys. */
export type RowKernel = Exclude<TiledKernel, 'biasGradient'>;

export interface TiledWork {
  variant: AttentionVariant;
  /** Rows of each score matrix, and how many matrices there are. */
  rows: number;
  matrices: number;
  /** Columns that a row sees, on average, where a window hides others. */
  seen?: number;
  /** The sides of a layout's blocks. */
  block?: {rows: number; columns: number};
}

export function tiledWork(
  kernel: RowKernel,
  variant: AttentionVariant,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
): TiledWork {
  const {batch, heads, keyHeads, queries, keys} = sizes;
  const {layout} = attrs;
  const seen = keysSeen(attrs, sizes);
  const ofQueries = {variant, rows: queries, matrices: batch * heads, seen};
  const ofKeys = {variant, rows: keys, matrices: batch * keyHeads, seen: seen && (seen * queries) / keys};
  if (!layout) return kernel === 'keyValueGradient' ? ofKeys : ofQueries;
  const [blockQueries, blockKeys] = layout.blockSize;
  return kernel === 'keyValueGradient'
    ? {...ofKeys, block: {rows: blockKeys, columns: blockQueries}}
    : {...ofQueries, block: {rows: blockQueries, columns: blockKeys}};
}

/** Of a query, on average. A window that is open on one side begins or ends at the diagonal, or near it. */
function keysSeen({left, right}: FlashAttentionAttrs, {queries, keys}: AttentionSizes): number | undefined {
  if (left < 0 && right < 0) return undefined;
  if (left < 0 || right < 0) return Math.max(keys - queries / 2, keys / 2);
  return Math.min(left + right + 1, keys);
}

/** Of tiles with so many rows. */
export function workgroupsOf({rows, matrices}: TiledWork, tileRows: number): number {
  return Math.ceil(rows / tileRows) * matrices;
}

/** So many matrices that what their tiles load stays in the caches of a GPU. */
const CACHED_MATRICES = 16;
/** Turns side by side where they are uneven, times the elements of a row: with many more, caches hold too little of them. */
const UNEVEN_TURNS = 2 ** 17;

/**
 * How many score matrices take turns side by side, each turn a row of tiles, the longest first. Where a mask leaves some rows
 * many times the tiles of others these are more, because at the end the GPU waits for the long turns of the last set. Kernels
 * in float16, which need what they load three times as soon, keep to the few that were measured.
 */
export function matricesAbreast(
  {left, right, precision}: Pick<FlashAttentionAttrs, 'left' | 'right' | 'precision'>,
  {depth, valueDepth}: Pick<AttentionSizes, 'depth' | 'valueDepth'>,
  rowTiles: number,
): number {
  const areUneven = left < 0 !== right < 0 && precision === 'highest';
  const turns = areUneven ? Math.floor(UNEVEN_TURNS / (Math.max(depth, valueDepth) * Math.max(rowTiles, 1))) : 0;
  return Math.max(turns, CACHED_MATRICES);
}
