/**
 * GLSL of how the matrices of a chunk are laid out, [tiles, tileQueries, tileKeys], in planes (register_tiles_glsl.ts).
 * Without a layout each head has one tile, all queries × the keys of the chunk; with one, each entry (a head, or a sample
 * where heads have patterns of their own) has the live tiles of the chunk's columns of tiles, numbered row by row. Programs
 * find them by index textures:
 *
 * - tilePlaces: of each tile its row of tiles, over all patterns, and QUARTER_SETS·column + which of its quarters are live;
 * - rowRanges, rowEntries: the tiles of each row of tiles, and the column of each;
 * - columnRanges, columnEntries: the tiles of each column of tiles, and the row of each.
 */
import type {AttentionVariant} from './attention_glsl.js';
import {indexAccess} from './index_textures.js';
import {setTargets} from './register_tiles_glsl.js';
import {texel} from './textures_glsl.js';

/** How many sets of live quarters a tile may have. */
export const QUARTER_SETS = 16;

type Sparse = Pick<AttentionVariant, 'layout'>;
type Tiled = Pick<AttentionVariant, 'layout' | 'tile'>;

/** Inputs of programs that make planes of a chunk (`enterScoreTile`). */
export const quadInputs = ({layout}: Sparse) => (layout ? (['tilePlaces'] as const) : []);
/** Inputs of `overTilesOfRows`. */
export const rowInputs = ({layout}: Sparse) => (layout ? (['rowRanges', 'rowEntries'] as const) : []);
/** Inputs of `overTilesOfColumns`. */
export const columnInputs = ({layout}: Sparse) => (layout ? (['columnRanges', 'columnEntries'] as const) : []);

/** GLSL of how a head finds its tiles. */
export function tileFunctions({layout}: Sparse): string {
  if (!layout) return '';
  return `
${indexAccess}
// Which of the layout's patterns is that of the head.
int patternOf(Head head) {
  return patterns > 1 ? head.head : 0;
}

// The number of its entry's first tile in the planes of a chunk.
int firstTileOf(Head head) {
  return (patterns > 1 ? head.sampleIndex : head.index) * tileCount;
}

// Scores of a quad, without those in dead blocks of its tile.
vec4 liveScores(vec4 scores, int liveQuarters, int query, int key) {
  ivec2 lower = ivec2(query, query + 1) / blockQueries % 2;
  ivec2 right = ivec2(key, key + 1) / blockKeys % 2;
  ivec4 quarters = 2 * lower.xxyy + right.xyxy;
  return mix(scores, vec4(hiddenScore), equal((ivec4(liveQuarters) >> quarters) & 1, ivec4(0)));
}`;
}

/**
 * GLSL statements with which a program that makes planes of a chunk finds its register tile: declares `head`, its first
 * `query` and `key`, the number `index` of its texel and with a layout `liveQuarters`; writes `otherwise` and ends where no
 * query of the register tile sees a key of it.
 */
export function enterScoreTile({layout, tile: registerTile}: Tiled, otherwise: string): string {
  const {down, across} = registerTile;
  const place = layout
    ? `
  ivec2 spot = indices(${texel('tilePlaces', 'tile % tileCount')});
  int entry = tile / tileCount;
  int headIndex = patterns > 1 ? entry * heads + spot.x / tileRows : entry;
  int liveQuarters = spot.y % ${QUARTER_SETS};
  int query = spot.x % tileRows * tileQueries + within.x;
  int key = chunkStart + spot.y / ${QUARTER_SETS} * tileKeys + within.y;`
    : `
  int headIndex = tile;
  int query = within.x;
  int key = chunkStart + within.y;`;
  return `
  int index = outputTexel();
  int tilesAcross = registerTiles(tileKeys, ${across});
  int tilesDown = registerTiles(tileQueries, ${down});
  int rowOfTiles = index / tilesAcross;
  int tile = rowOfTiles / tilesDown;
  ivec2 within = 2 * ivec2(${down}, ${across}) * ivec2(rowOfTiles % tilesDown, index % tilesAcross);
  ${place}
  // Textures may be larger than what they hold.
  if (headIndex >= batch * heads) { ${setTargets(registerTile, () => 'vec4(0.0)')} return; }
  Head head = makeHead(headIndex);
  ivec2 seen = visibleKeys(head, query, query + ${2 * down - 1});
  if (query >= queries || key + ${2 * across - 1} < seen.x || key >= seen.y) { ${setTargets(registerTile, () => otherwise)} return; }`;
}

/**
 * GLSL that runs `body` for each tile that so many rows of `head` cross, from `query` on, all in one register tile. There,
 * `firstTexel` is the number of the first texel of their register tiles in the tile, `firstKey` the tile's first key, and
 * `seen` the keys that they see, counted from it.
 */
export function overTilesOfRows({layout, tile: registerTile}: Tiled, rows: number, body: string): string {
  const {down, across} = registerTile;
  const inTile = (tile: string, row: string, firstKey: string) => `
    int firstTexel = (${tile} * registerTiles(tileQueries, ${down}) + ${row} / ${2 * down}) * registerTiles(tileKeys, ${across});
    int firstKey = ${firstKey};
    ivec2 seen = clamp(visibleKeys(head, query, query + ${rows - 1}) - firstKey, 0, tileKeys);
    ${body}`;
  if (!layout) return `{ ${inTile('head.index', 'query', 'chunkStart')} }`;
  return `{
  ivec2 range = indices(${texel('rowRanges', 'patternOf(head) * tileRows + query / tileQueries')});
  for (int at = range.x; at < range.y; at++) {
    ivec2 entry = indices(${texel('rowEntries', 'at')});
    ${inTile('(firstTileOf(head) + entry.x)', '(query % tileQueries)', 'chunkStart + entry.y * tileKeys')}
  }
  }`;
}

/**
 * GLSL that runs `body` for each tile that so many columns of `head` cross, from `key` on, all in one register tile. There,
 * `firstTexel` is the number of the first texel of their register tiles in the tile, from where texels below are
 * `tilesAcross` on, `firstQuery` the tile's first query, and `seen` the queries that see them, counted from it.
 */
export function overTilesOfColumns({layout, tile: registerTile}: Tiled, columns: number, body: string): string {
  const {down, across} = registerTile;
  const inTile = (tile: string, firstQuery: string) => `
    int tilesAcross = registerTiles(tileKeys, ${across});
    int firstTexel = ${tile} * registerTiles(tileQueries, ${down}) * tilesAcross + (key - chunkStart) % tileKeys / ${2 * across};
    int firstQuery = ${firstQuery};
    ivec2 seen = clamp(visibleQueries(head, key, key + ${columns - 1}) - firstQuery, 0, tileQueries);
    ${body}`;
  if (!layout) return `{ ${inTile('head.index', '0')} }`;
  return `{
  ivec2 range = indices(${texel('columnRanges', 'patternOf(head) * tileColumns + (key - chunkStart) / tileKeys')});
  for (int at = range.x; at < range.y; at++) {
    ivec2 entry = indices(${texel('columnEntries', 'at')});
    ${inTile('(firstTileOf(head) + entry.x)', 'entry.y * tileQueries')}
  }
  }`;
}
