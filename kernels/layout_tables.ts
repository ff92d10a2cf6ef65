/** Index tables of layouts for GPU kernels, which the layout keeps on each backend (`BlockLayout.indexBuffer`). */
import type {BlockLayout} from '../src/sparsity/block_layout.js';
import {blockWalk} from './block_sparse_sizes.js';

/**
 * The blocks of each row of blocks of the sparse matrix, or of its transpose: first where each row's entries begin, over
 * all heads and with the end of the last; then two numbers per entry: the block, and the inner block that it meets.
 */
export function walkTable(layout: BlockLayout, transposed: boolean): Int32Array {
  const {offsets, blocks, innerIndices} = blockWalk(layout, transposed);
  const entries = Array.from(blocks, (block) => [block, innerIndices[block]]);
  return Int32Array.from([...offsets, ...entries.flat()]);
}

/** Three numbers per live block: its row and column of blocks, and its head. */
export function placeTable({heads, rowBlocks, rowOffsets, rowIndices, colIndices, nnz}: BlockLayout): Int32Array {
  const table = new Int32Array(3 * nnz);
  for (let head = 0; head < heads; head++) {
    for (let block = rowOffsets[head * rowBlocks]; block < rowOffsets[(head + 1) * rowBlocks]; block++) {
      table.set([rowIndices[block], colIndices[block], head], 3 * block);
    }
  }
  return table;
}

/** How a kernel cuts up the score matrix: the rows of its tiles are queries or keys. */
export interface ScoreTiles {
  rowsAre: 'queries' | 'keys';
  /** Rows and columns of a tile. */
  rows: number;
  columns: number;
  /** How many tiles the score matrix has down and across. */
  rowTiles: number;
  columnTiles: number;
}

/**
 * For attention: the tiles that hold live blocks. One after the other:
 *
 * - of each row of tiles, over all heads and with the end of the last, where its entries begin;
 * - a bit per block [heads, rowBlocks, colBlocks], 1 where it is live, 32 to a number;
 * - the entries, 2·column of the tile, plus 1 where the tile holds dead blocks too.
 */
export function liveTilesTable(layout: BlockLayout, tiles: ScoreTiles): Int32Array {
  const {heads, rowBlocks, colBlocks, blockSize} = layout;
  const {rowTiles, columnTiles} = tiles;
  const [rowSize, colSize] = tiles.rowsAre === 'queries' ? blockSize : [blockSize[1], blockSize[0]];
  const [lines, crossLines] = tiles.rowsAre === 'queries' ? [rowBlocks, colBlocks] : [colBlocks, rowBlocks];
  const walk = blockWalk(layout, tiles.rowsAre === 'keys');
  const offsets = [0];
  const entries: number[] = [];
  for (let row = 0; row < heads * rowTiles; row++) {
    const [head, rowTile] = [Math.floor(row / rowTiles), row % rowTiles];
    const ofRow = blocksUnder(rowTile, tiles.rows, rowSize, lines);
    const liveCounts = new Int32Array(columnTiles);
    for (let line = ofRow.first; line < ofRow.end; line++) {
      const list = head * lines + line;
      for (let at = walk.offsets[list]; at < walk.offsets[list + 1]; at++) {
        const cross = walk.innerIndices[walk.blocks[at]];
        const end = Math.min(columnTiles, ((cross + 1) * colSize) / tiles.columns);
        for (let tile = Math.floor((cross * colSize) / tiles.columns); tile < end; tile++) liveCounts[tile]++;
      }
    }
    liveCounts.forEach((live, columnTile) => {
      if (live === 0) return;
      const across = blocksUnder(columnTile, tiles.columns, colSize, crossLines);
      const all = (ofRow.end - ofRow.first) * (across.end - across.first);
      entries.push(2 * columnTile + Number(live < all));
    });
    offsets.push(entries.length);
  }
  return Int32Array.from([...offsets, ...liveBits(layout), ...entries]);
}

/** The blocks, along one axis, that a tile has elements of. */
function blocksUnder(tile: number, tileSize: number, blockSize: number, blocks: number): {first: number; end: number} {
  const first = Math.floor((tile * tileSize) / blockSize);
  return {first, end: Math.min(blocks, Math.ceil(((tile + 1) * tileSize) / blockSize))};
}

function liveBits({heads, rowBlocks, colBlocks, rowOffsets, colIndices}: BlockLayout): Int32Array {
  const bits = new Int32Array(Math.ceil((heads * rowBlocks * colBlocks) / 32));
  for (let row = 0; row < heads * rowBlocks; row++) {
    for (let block = rowOffsets[row]; block < rowOffsets[row + 1]; block++) {
      const bit = row * colBlocks + colIndices[block];
      bits[bit >> 5] |= 1 << (bit & 31);
    }
  }
  return bits;
}
