/** The uniforms of the attention kernels, and the variant of a call. */
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, broadcastStrides, dropoutThreshold} from '../attention_sizes.js';
import type {AttentionVariant} from './attention_wgsl.js';
import type {CutRows} from './long_rows.js';
import type {MatrixGroup, StoredTiles} from './stored_gradient.js';
import {matricesAbreast} from './tiled_work.js';

export function attentionVariant(
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
  {depth, valueDepth}: AttentionSizes,
): AttentionVariant {
  return {
    depth,
    valueDepth,
    order: attrs.order,
    bias: Boolean(inputs.bias),
    mask: Boolean(inputs.mask),
    headTable: Boolean(inputs.alibiSlopes || inputs.queryLengths || inputs.keyLengths),
    softcap: attrs.softcap > 0,
    dropout: attrs.dropoutRate > 0,
    ...(attrs.layout && {layout: {blockSize: attrs.layout.blockSize}}),
  };
}

/** Stands for "no limit" in a window: beyond any sequence, yet sums of a few stay within int32. */
const UNLIMITED = 2 ** 28;

/** Fills the struct Params of attention_wgsl.ts, field by field. */
export function attentionParams(
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
  tiles: {rowTiles: number; columnTiles: number; cut?: CutRows; group?: MatrixGroup; stored?: StoredTiles},
): ArrayBuffer {
  const params = new DataView(new ArrayBuffer(144));
  const limit = (keys: number) => (keys < 0 ? UNLIMITED : Math.min(keys, UNLIMITED));
  let offset = 0;
  const uint = (value: number) => {
    params.setUint32(offset, value, true);
    offset += 4;
  };
  const float = (value: number) => {
    params.setFloat32(offset, value, true);
    offset += 4;
  };
  uint(sizes.batch);
  uint(sizes.heads);
  uint(sizes.keyHeads);
  uint(sizes.queries);
  uint(sizes.keys);
  uint(limit(attrs.left));
  uint(limit(attrs.right));
  uint(attrs.dropoutSeed);
  uint(dropoutThreshold(attrs.dropoutRate));
  float(1 / (1 - attrs.dropoutRate));
  float(attrs.scale);
  float(attrs.softcap);
  for (const stride of inputs.bias ? broadcastStrides(inputs.bias) : [0, 0, 0, 0]) uint(stride);
  for (const stride of inputs.mask ? broadcastStrides(inputs.mask) : [0, 0, 0, 0]) uint(stride);
  uint(tiles.rowTiles);
  uint(tiles.columnTiles);
  uint(attrs.layout?.heads ?? 0);
  uint(attrs.layout?.rowBlocks ?? 0);
  uint(attrs.layout?.colBlocks ?? 0);
  uint(tiles.cut?.turns ?? 0);
  uint(tiles.cut?.slots ?? 0);
  uint(tiles.cut?.rows ?? 0);
  uint(tiles.group?.first ?? 0);
  uint(tiles.group?.count ?? 0);
  uint(tiles.stored?.pitch ?? 0);
  uint(tiles.stored?.before ?? 0);
  uint(tiles.stored?.count ?? 0);
  uint(matricesAbreast(attrs, sizes, tiles.rowTiles));
  return params.buffer;
}
