/**
 * Attention on WebGL goes over the keys chunk by chunk: a chunk's scores are textures of [B·H, Sq, keys of the chunk], so
 * memory is linear in the sequence length. Short sequences are one chunk. With a layout the textures hold live tiles only.
 */
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {type TileColumns, tileCount, tilesOf} from './live_tiles.js';
import type {RegisterTile} from './register_tiles_glsl.js';
import {largestTexture} from './texture_limits.js';

/** Keys [start, start + count). */
export interface KeyChunk {
  /** Register tiles do not straddle chunks. */
  start: number;
  count: number;
  isLast: boolean;
  tiles: ChunkTiles;
}

/** The tiles of a chunk (tiles_glsl.ts): how many each entry has, their size, and their columns in the layout. */
export interface ChunkTiles {
  count: number;
  queries: number;
  keys: number;
  columns: TileColumns;
}

/** For programs that have nothing to do with chunks. */
export const WHOLE: KeyChunk = {
  start: 0,
  count: 0,
  isLast: true,
  tiles: {count: 0, queries: 0, keys: 0, columns: {first: 0, end: 0}},
};

/** Scores of a chunk that are worth having at once: 16 MiB of float32. */
const SCORES_PER_CHUNK = 2 ** 22;

/** With fewer keys, passing the running output from chunk to chunk costs more than the chunk's own work. */
const MIN_KEYS = 128;

/** Replaced by tests, which want chunk boundaries at small sizes. */
export const chunkLimits = {scores: SCORES_PER_CHUNK, minKeys: MIN_KEYS};

/** The chunks with keys that some query sees, as far as the host can tell, in whole register tiles; at least one. */
export function keyChunks(
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
  {down, across}: RegisterTile,
): KeyChunk[] {
  const unit = {queries: 2 * down, keys: 2 * across};
  const chunksOf = (visible: [number, number]) =>
    attrs.layout ? tileChunks(attrs, attrs.layout, sizes, unit, visible) : wholeChunks(sizes, unit, visible);
  let chunks = chunksOf(visibleKeys(inputs, attrs, sizes));
  // Programs must run once to say that nothing is visible.
  if (chunks.length === 0) chunks = chunksOf([0, sizes.keys]).slice(0, 1);
  return chunks.map((chunk, i) => ({...chunk, isLast: i === chunks.length - 1}));
}

/** How many times a chunk texture holds the chunk's tiles: once per head, or per sample where the layout tells heads apart. */
export function entryCount({layout}: FlashAttentionAttrs, {batch, heads}: AttentionSizes): number {
  return layout && layout.heads > 1 ? batch : batch * heads;
}

type ChunkInOrder = Omit<KeyChunk, 'isLast'>;

/** A register tile, for which a plane has a texel. */
interface Unit {
  queries: number;
  keys: number;
}

function wholeChunks(sizes: AttentionSizes, unit: Unit, [first, end]: [number, number]): ChunkInOrder[] {
  const {batch, heads, queries} = sizes;
  const step = keysThatFit(batch * heads, queries, sizes, unit);
  const chunks: ChunkInOrder[] = [];
  for (let start = first - (first % unit.keys); start < end; start += step) {
    const count = Math.min(step, end - start);
    chunks.push({start, count, tiles: {count: 1, queries, keys: count, columns: {first: 0, end: 1}}});
  }
  return chunks;
}

/** Columns of tiles, as many as fit; parts of one where it alone does not fit. */
function tileChunks(
  attrs: FlashAttentionAttrs,
  layout: BlockLayout,
  sizes: AttentionSizes,
  unit: Unit,
  [firstKey, endKey]: [number, number],
): ChunkInOrder[] {
  const grid = tilesOf(layout);
  // Blocks may be larger than the matrix.
  const queries = Math.min(grid.blockSize[0], sizes.queries + (sizes.queries % 2));
  const keys = Math.min(grid.blockSize[1], sizes.keys + (sizes.keys % 2));
  const entries = entryCount(attrs, sizes);
  const fits = (columns: TileColumns) => keysThatFit(entries * tileCount(grid, columns), queries, sizes, unit) >= keys;
  const endColumn = Math.min(grid.colBlocks, Math.ceil(endKey / keys));
  const chunks: ChunkInOrder[] = [];
  for (let first = Math.floor(firstKey / keys), end = first; first < endColumn; first = end) {
    for (end = first + 1; end < endColumn && fits({first, end: end + 1}); ) end++;
    const columns = {first, end};
    const count = tileCount(grid, columns);
    if (count === 0) continue;
    const chunkEnd = Math.min(end * keys, sizes.keys);
    if (fits(columns)) {
      const start = first * keys;
      chunks.push({start, count: chunkEnd - start, tiles: {count, queries, keys, columns}});
      continue;
    }
    const step = keysThatFit(entries * count, queries, sizes, unit);
    for (let start = first * keys; start < chunkEnd; start += step) {
      const width = Math.min(step, end * keys - start);
      chunks.push({start, count: Math.min(width, chunkEnd - start), tiles: {count, queries, keys: width, columns}});
    }
  }
  return chunks;
}

/** How many keys wide so many tiles may be; a multiple of the unit's. */
function keysThatFit(tiles: number, tileQueries: number, {batch, heads, queries}: AttentionSizes, unit: Unit): number {
  const scores = Math.max(chunkLimits.scores, chunkLimits.minKeys * batch * heads * queries);
  const wanted = Math.floor(scores / (tiles * tileQueries));
  const mostThatFits = Math.floor(largestTexture() / (tiles * Math.ceil(tileQueries / unit.queries))) * unit.keys;
  return Math.max(unit.keys, Math.min(wanted - (wanted % unit.keys), mostThatFits));
}

/** Lengths that grow token by token make a texture of another size only every so many. */
const LENGTH_STEP = 128;

/** With lengths, which are on the GPU, each sample has a diagonal of its own. */
function visibleKeys(
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
  {queries, keys}: AttentionSizes,
): [number, number] {
  const mostKeys = Math.min(keys, Math.ceil(attrs.mostKeys / LENGTH_STEP) * LENGTH_STEP);
  if (inputs.queryLengths || inputs.keyLengths) return [0, mostKeys];
  const diagonal = keys - queries;
  const first = attrs.left < 0 ? 0 : Math.max(0, diagonal - attrs.left);
  const end = attrs.right < 0 ? keys : Math.min(keys, queries + diagonal + attrs.right);
  return [first, end];
}
