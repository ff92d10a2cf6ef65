/**
 * Under a layout single rows of tiles may be far longer than others: where all queries see the first tokens, one workgroup
 * would take as long for their keys as all others together take for theirs. Such rows are cut into parts, a workgroup for
 * each, and what these have is added up afterwards (long_rows_wgsl.ts). Longest first, so that short ones fill the end.
 */
import type {BlockLayout} from '../../src/sparsity/block_layout.js';

/** How the rows of a kernel are cut, and the table of it, which follows the entries of `liveTiles`. */
export interface CutRows {
  /** Workgroups for each score matrix. Four numbers each: row of tiles, part, parts of the row, and the part's slot. */
  turns: number;
  /** Parts of rows that are cut. */
  slots: number;
  /** Rows that are cut. Three numbers each: row of tiles, first slot, parts. */
  rows: number;
  table: Int32Array;
}

/** Rows may have so many tiles, and so many times the average: parts of fewer spend more on their sums than they save. */
export const mostInOnePart = {tiles: 16, averages: 2};

const known = new WeakMap<BlockLayout, Map<string, CutRows | undefined>>();

/** The cut of the rows whose tiles are `liveTiles` (layout_tables.ts) under this name, made once; undefined where none is long. */
export function cutRowsOf(
  layout: BlockLayout,
  name: string,
  rowTiles: number,
  liveTiles: () => Int32Array,
): CutRows | undefined {
  const ofLayout = known.get(layout) ?? new Map<string, CutRows | undefined>();
  known.set(layout, ofLayout);
  const key = `${name} ${Object.values(mostInOnePart)}`;
  if (!ofLayout.has(key)) ofLayout.set(key, cutRows(lengthsOf(liveTiles(), layout.heads, rowTiles)));
  return ofLayout.get(key);
}

/** Of each row of tiles, in the head where it is longest. */
function lengthsOf(liveTiles: Int32Array, heads: number, rowTiles: number): number[] {
  return Array.from({length: rowTiles}, (_, row) => {
    const ofHead = (head: number) => liveTiles[head * rowTiles + row + 1] - liveTiles[head * rowTiles + row];
    return Math.max(...Array.from({length: heads}, (_, head) => ofHead(head)));
  });
}

/** For rows of so many tiles. */
export function cutRows(lengths: number[]): CutRows | undefined {
  const average = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
  const most = Math.max(mostInOnePart.tiles, Math.ceil(mostInOnePart.averages * average));
  const turns: {length: number; numbers: number[]}[] = [];
  const cuts: number[][] = [];
  let slots = 0;
  lengths.forEach((length, row) => {
    const parts = Math.max(1, Math.ceil(length / most));
    for (let part = 0; part < parts; part++) {
      turns.push({length: length / parts, numbers: [row, part, parts, parts === 1 ? 0 : slots + part]});
    }
    if (parts === 1) return;
    cuts.push([row, slots, parts]);
    slots += parts;
  });
  if (slots === 0) return undefined;
  turns.sort((a, b) => b.length - a.length);
  const table = Int32Array.from([...turns.flatMap(({numbers}) => numbers), ...cuts.flat()]);
  return {turns: turns.length, slots, rows: cuts.length, table};
}
