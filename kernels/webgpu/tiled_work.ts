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
  /** The sides of a layout's blocks. */
  block?: {rows: number; columns: number};
}

export function tiledWork(
  kernel: RowKernel,
  variant: AttentionVariant,
  {layout}: FlashAttentionAttrs,
  {batch, heads, keyHeads, queries, keys}: AttentionSizes,
): TiledWork {
  const ofQueries = {variant, rows: queries, matrices: batch * heads};
  const ofKeys = {variant, rows: keys, matrices: batch * keyHeads};
  if (!layout) return kernel === 'keyValueGradient' ? ofKeys : ofQueries;
  const [blockQueries, blockKeys] = layout.blockSize;
  return kernel === 'keyValueGradient'
    ? {...ofKeys, block: {rows: blockKeys, columns: blockQueries}}
    : {...ofQueries, block: {rows: blockQueries, columns: blockKeys}};
}

/** Of tiles with so many rows. */
export function workgroupsOf({rows, matrices}: TiledWork, tileRows: number): number {
  return Math.ceil(rows / tileRows) * matrices;
}
