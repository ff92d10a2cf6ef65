/**
 * WGSL with which attention kernels go over the tiles that a layout calls live, and hide the dead blocks of those that
 * hold some. The buffer `liveTiles` is what `liveTilesTable` in layout_tables.ts makes, for the kernel's tiles.
 */
import type {AttentionVariant} from './attention_wgsl.js';
import type {Binding} from './shader.js';

/** What a kernel takes of the score matrix at once. */
export interface TileArea {
  rows: number;
  columns: number;
}

/** What a shader is compiled for. */
export interface LayoutVariant {
  /** Queries and keys of a block. */
  blockSize: readonly [number, number];
}

export function liveTilesBinding({layout}: AttentionVariant): Binding[] {
  return layout ? [{name: 'liveTiles', access: 'read', element: 'i32'}] : [];
}

/** Whether tiles may hold dead blocks beside live ones: not where each lies within one block. */
function mixesBlocks({layout}: AttentionVariant, tile: TileArea): boolean {
  const isMultiple = layout?.blockSize.every((size) => size % tile.rows === 0 && size % tile.columns === 0);
  return layout !== undefined && !isMultiple;
}

/** Functions for the emitters below, and `hasLiveBlock` for kernels that do not go tile by tile along a row. */
export function layoutFunctions({layout}: AttentionVariant): string {
  if (!layout) return '';
  const [querySize, keySize] = layout.blockSize;
  return `
fn blockIndex(head: Head, query: i32, key: i32) -> u32 {
  let row = min(u32(query) / ${querySize}u, params.layoutRows - 1u);
  let column = min(u32(key) / ${keySize}u, params.layoutColumns - 1u);
  return (head.head % params.layoutHeads * params.layoutRows + row) * params.layoutColumns + column;
}

fn isLive(head: Head, query: i32, key: i32) -> bool {
  let block = blockIndex(head, query, key);
  let bits = u32(liveTiles[params.layoutHeads * params.rowTiles + 1u + block / 32u]);
  return ((bits >> (block % 32u)) & 1u) == 1u;
}

fn hideDead(head: Head, scores: vec4f, query: vec4i, key: vec4i) -> vec4f {
  let live = vec4<bool>(
    isLive(head, query.x, key.x), isLive(head, query.y, key.y),
    isLive(head, query.z, key.z), isLive(head, query.w, key.w));
  return select(vec4f(hiddenScore), scores, live);
}

// Whether a block that queries [query, queryEnd) share with keys [key, keyEnd) lives.
fn hasLiveBlock(head: Head, query: i32, queryEnd: i32, key: i32, keyEnd: i32) -> bool {
  for (var i = query / ${querySize} * ${querySize}; i < queryEnd; i += ${querySize}) {
    for (var j = key / ${keySize} * ${keySize}; j < keyEnd; j += ${keySize}) {
      if (isLive(head, i, j)) { return true; }
    }
  }
  return false;
}`;
}

/**
 * A loop over the tiles that the rows from `rowStart` have with the columns [first, end): `columnStart` names the
 * variable with a tile's first column. Needs `head`, and `part` and `parts` where rows are cut (long_rows.ts).
 */
export function overColumnTiles(
  {layout}: AttentionVariant,
  tile: TileArea,
  rowStart: string,
  columnStart: string,
  [first, end]: [string, string],
  body: string,
  isCut = false,
): string {
  if (!layout) {
    return `
  for (var ${columnStart} = ${first} / ${tile.columns}u * ${tile.columns}u; ${columnStart} < ${end}; ${columnStart} += ${tile.columns}u) {
    ${body}
  }`;
  }
  const whole = `let firstOfPart = u32(liveTiles[list]);
    let endOfPart = u32(liveTiles[list + 1u]);`;
  const ownPart = `let firstOfList = u32(liveTiles[list]);
    let count = u32(liveTiles[list + 1u]) - firstOfList;
    let firstOfPart = firstOfList + count * part / parts;
    let endOfPart = firstOfList + count * (part + 1u) / parts;`;
  return `
  {
    ${declareList(tile, rowStart)}
    ${isCut ? ownPart : whole}
    for (var at = firstOfPart; at < endOfPart; at++) {
      let entry = u32(liveTiles[firstEntry + at]);
      let ${columnStart} = entry / 2u * ${tile.columns}u;
      let hasDead = entry % 2u == 1u;
      if (${columnStart} + ${tile.columns}u > ${first} && ${columnStart} < ${end}) {
        ${body}
      }
    }
  }`;
}

/** Declares `list`, the row of tiles in the buffer, and `firstEntry`, where the tiles of all lists begin. */
function declareList({rows}: TileArea, rowStart: string): string {
  return `let list = head.head % params.layoutHeads * params.rowTiles + ${rowStart} / ${rows}u;
    ${declareFirstEntry}`;
}

/** Declares `firstEntry`, where the tiles of all lists begin. */
export const declareFirstEntry = `let bits = (params.layoutHeads * params.layoutRows * params.layoutColumns + 31u) / 32u;
    let firstEntry = params.layoutHeads * params.rowTiles + 1u + bits;`;

/** The tiles of {@link overColumnTiles} by number, for kernels that load them ahead; some may lie outside of [first, end). */
export interface NumberedTiles {
  /** Declares `tileCount`, and what the others need. */
  declare: string;
  columnStart: (number: string) => string;
  hasDead: (number: string) => string;
}

export function numberedTiles(
  {layout}: AttentionVariant,
  tile: TileArea,
  rowStart: string,
  [first, end]: [string, string],
): NumberedTiles {
  if (!layout) {
    return {
      declare: `let firstTile = ${first} / ${tile.columns}u;
    let tileCount = max((${end} + ${tile.columns - 1}u) / ${tile.columns}u, firstTile) - firstTile;`,
      columnStart: (number) => `(firstTile + ${number}) * ${tile.columns}u`,
      hasDead: () => 'false',
    };
  }
  const entry = (number: string) => `u32(liveTiles[firstEntry + firstTile + ${number}])`;
  return {
    declare: `${declareList(tile, rowStart)}
    let firstTile = u32(liveTiles[list]);
    let tileCount = select(0u, u32(liveTiles[list + 1u]) - firstTile, ${first} < ${end});`,
    columnStart: (number) => `${entry(number)} / 2u * ${tile.columns}u`,
    hasDead: (number) => `(${entry(number)} % 2u == 1u)`,
  };
}

/** Hides dead blocks in a quad of scores, where the tile has some. Needs `hasDead`. */
export function hideDeadIn(variant: AttentionVariant, tile: TileArea, hide: string): string {
  return mixesBlocks(variant, tile) ? `if (hasDead) { ${hide} }` : '';
}
