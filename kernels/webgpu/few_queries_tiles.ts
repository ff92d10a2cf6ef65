/** Which calls take the attention kernel for few queries (few_queries_wgsl.ts), and how it cuts them up: the place to tune. */
import type {FlashAttentionAttrs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {simdWidth} from './tile_sizes.js';

/** What one workgroup takes. */
export interface FewQueriesTile {
  /** Rows, a power of two: the queries of all heads that share a key head, one head after the other. */
  rows: number;
  /** G: neighbouring lanes that share a key, a power of two. */
  lanes: number;
  /** Invocations. */
  threads: number;
}

/** How a call is cut up. Where there is one chunk, its workgroups write the results, and no second dispatch is needed. */
export interface FewQueriesPlan {
  tile: FewQueriesTile;
  /** Tiles that the rows of a key head take. */
  rowTiles: number;
  /** Chunks that the keys of each head are cut into, a workgroup each. */
  chunks: number;
}

interface Shape {
  /** With more queries, kernels whose tiles hold many rows make more of each key that they load. */
  mostQueries: number;
  mostRows: number;
  threads: number;
  /** Of a key: so many loads of a lane are under way at once, for each of four keys. */
  mostQuadsPerLane: number;
  /** What a lane holds of all rows, unless that is less than one quad of each: more takes too many registers. */
  mostRowQuadsPerLane: number;
  /** Fewer invocations leave parts of the device without work. */
  enoughInvocations: number;
  /** Of fewer keys in each chunk, the second dispatch takes longer than it saves. */
  leastChunkKeys: number;
}

/** By the width of SIMD groups, as in tile_sizes.ts. */
export const fewQueriesShapes: Record<'wide' | 'narrow', Shape> = {
  wide: {
    mostQueries: 16,
    mostRows: 16,
    threads: 128,
    mostQuadsPerLane: 4,
    mostRowQuadsPerLane: 8,
    enoughInvocations: 65536,
    leastChunkKeys: 256,
  },
  narrow: {
    mostQueries: 16,
    mostRows: 4,
    threads: 32,
    mostQuadsPerLane: 4,
    mostRowQuadsPerLane: 16,
    enoughInvocations: 128,
    leastChunkKeys: 1024,
  },
};

/** A quad of a row for each lane of a group. */
const MOST_LANES = 64;
const FEWEST_LANES = 4;
const FEWEST_THREADS = 32;

/** The plan of a call; undefined where other kernels suit it better. `bytesOf` says what workgroup memory a tile takes. */
export function planFewQueries(
  device: GPUDevice,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
  bytesOf: (tile: FewQueriesTile) => number,
): FewQueriesPlan | undefined {
  const shape = fewQueriesShapes[simdWidth(device)];
  const {batch, heads, keyHeads, queries} = sizes;
  const keys = mostKeysSeen(attrs, sizes);
  // With fewer keys, adding up what the lane groups have takes longer than larger tiles waste.
  const areFew = queries <= shape.mostQueries && queries ** 2 <= keys;
  // Other kernels skip what a layout calls dead, and add up q·k in the order of the backward kernels.
  if (!areFew || attrs.layout || attrs.taped) return undefined;
  const rows = (queries * heads) / keyHeads;
  const tile = largestTile(shape, sizes, rows, (each) => bytesOf(each) <= device.limits.maxComputeWorkgroupStorageSize);
  if (!tile) return undefined;
  const rowTiles = Math.ceil(rows / tile.rows);
  const enough = Math.ceil(shape.enoughInvocations / (tile.threads * batch * keyHeads * rowTiles));
  const most = Math.floor(keys / shape.leastChunkKeys);
  return {tile, rowTiles, chunks: Math.max(1, Math.min(enough, most))};
}

/** The tile with the most rows, and of those with most threads, that fits. */
function largestTile(
  shape: Shape,
  {depth, valueDepth}: AttentionSizes,
  rowCount: number,
  fits: (tile: FewQueriesTile) => boolean,
): FewQueriesTile | undefined {
  let rows = 1;
  while (rows < Math.min(rowCount, shape.mostRows)) rows *= 2;
  for (; rows >= 1; rows /= 2) {
    const quads = Math.min(shape.mostQuadsPerLane, Math.max(1, shape.mostRowQuadsPerLane / rows));
    let lanes = FEWEST_LANES;
    while (lanes < MOST_LANES && 4 * lanes * quads < Math.max(depth, valueDepth)) lanes *= 2;
    for (let threads = Math.max(shape.threads, lanes); threads >= Math.max(FEWEST_THREADS, lanes); threads /= 2) {
      const tile = {rows, lanes, threads};
      if (fits(tile)) return tile;
    }
  }
  return undefined;
}

/** The keys from the first to the last that any query of a head sees are no more than this. */
function mostKeysSeen({left, right, mostKeys}: FlashAttentionAttrs, {queries}: AttentionSizes): number {
  return left < 0 || right < 0 ? mostKeys : Math.min(mostKeys, left + right + queries);
}
