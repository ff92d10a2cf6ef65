/**
 * Live tiles: what chunk textures hold of a call with a layout. A tile is a live block; where a side of the blocks is odd
 * it is two blocks along that side, so that no quad straddles tiles, and says which of its blocks are live.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {BlockLayout} from '../../src/sparsity/block_layout.js';
import {blockEntries, blockRanges, indexTexture} from './index_textures.js';
import type {Textures} from './packed_program.js';
import {QUARTER_SETS} from './tiles_glsl.js';

/** Columns [first, end) of tiles. */
export interface TileColumns {
  first: number;
  end: number;
}

const tilesOfLayouts = new WeakMap<BlockLayout, BlockLayout>();

/** The tiles of a layout, as a layout of their own; the layout itself where its blocks have even sides. */
export function tilesOf(layout: BlockLayout): BlockLayout {
  const {rowBlocks, colBlocks, blockSize, heads} = layout;
  const [down, across] = blocksPerTile(layout);
  if (down * across === 1) return layout;
  const known = tilesOfLayouts.get(layout);
  if (known) return known;
  const tiles = BlockLayout.from({
    rowBlocks: Math.ceil(rowBlocks / down),
    colBlocks: Math.ceil(colBlocks / across),
    blockSize: [blockSize[0] * down, blockSize[1] * across],
    heads,
    isLive: (row, col, head) => liveQuarters(layout, row, col, head) !== 0,
  });
  tilesOfLayouts.set(layout, tiles);
  return tiles;
}

function blocksPerTile({blockSize}: BlockLayout): number[] {
  return blockSize.map((size) => 1 + (size % 2));
}

/** Which of the quarters of a tile are live, a bit each: upper left, upper right, lower left, lower right. */
function liveQuarters(layout: BlockLayout, row: number, col: number, head: number): number {
  const [down, across] = blocksPerTile(layout);
  let bits = 0;
  for (let quarter = 0; quarter < 4; quarter++) {
    const blockRow = row * down + ((quarter >> 1) % down);
    const blockCol = col * across + ((quarter % 2) % across);
    const exists = blockRow < layout.rowBlocks && blockCol < layout.colBlocks;
    if (exists && layout.isLive(blockRow, blockCol, head)) bits |= 1 << quarter;
  }
  return bits;
}

/** How many live tiles these columns have, over all patterns. */
export function tileCount({colOffsets, colBlocks, heads}: BlockLayout, {first, end}: TileColumns): number {
  let count = 0;
  for (let head = 0; head < heads; head++) {
    count += colOffsets[head * colBlocks + end] - colOffsets[head * colBlocks + first];
  }
  return count;
}

/** The index textures of a chunk with these columns of tiles; see tiles_glsl.ts. */
export function tileTextures(backend: MathBackendWebGL, layout: BlockLayout, columns: TileColumns): Textures {
  // Made for the first texture that is missing, then shared.
  let ofChunk: BlockLayout | undefined;
  const texture = (what: string, texels: (tiles: BlockLayout) => number[][]) =>
    indexTexture(backend, layout, `attention ${what}, columns ${columns.first} to ${columns.end}`, () => {
      ofChunk ??= restrictTo(tilesOf(layout), columns);
      return texels(ofChunk);
    });
  return {
    tilePlaces: texture('places', (tiles) =>
      Array.from({length: tiles.nnz}, (_, tile) => {
        const [head, row, col] = [tiles.headOf(tile), tiles.rowIndices[tile], tiles.colIndices[tile]];
        return [
          head * tiles.rowBlocks + row,
          col * QUARTER_SETS + liveQuarters(layout, row, columns.first + col, head),
        ];
      }),
    ),
    rowRanges: texture('row ranges', (tiles) => blockRanges(tiles, false)),
    rowEntries: texture('row entries', (tiles) => blockEntries(tiles, false)),
    columnRanges: texture('column ranges', (tiles) => blockRanges(tiles, true)),
    columnEntries: texture('column entries', (tiles) => blockEntries(tiles, true)),
  };
}

function restrictTo(tiles: BlockLayout, {first, end}: TileColumns): BlockLayout {
  const {rowBlocks, colBlocks, blockSize, heads} = tiles;
  if (first === 0 && end === colBlocks) return tiles;
  const isLive = (row: number, col: number, head: number) => tiles.isLive(row, first + col, head);
  return BlockLayout.from({rowBlocks, colBlocks: end - first, blockSize, heads, isLive});
}
