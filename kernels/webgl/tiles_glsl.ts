/**
 * GLSL of how chunk textures are laid out, [tiles, tileQueries, tileKeys]. Without a layout each head has one tile, all
 * queries × the keys of the chunk; with one, each entry (a head, or a sample where heads have patterns of their own) has
 * the live tiles of the chunk's columns of tiles, numbered row by row. Programs find them by index textures:
 *
 * - tilePlaces: of each tile its row of tiles, over all patterns, and QUARTER_SETS·column + which of its quarters are live;
 * - rowRanges, rowEntries: the tiles of each row of tiles, and the column of each;
 * - columnRanges, columnEntries: the tiles of each column of tiles, and the row of each.
 */
import type {AttentionVariant} from './attention_glsl.js';
import {indexAccess} from './index_textures.js';
import {texel} from './textures_glsl.js';

/** How many sets of live quarters a tile may have. */
export const QUARTER_SETS = 16;

type Sparse = Pick<AttentionVariant, 'layout'>;

/** Inputs of programs that make a chunk texture (`enterScoreQuad`). */
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

// The number of its entry's first tile in a chunk texture.
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
 * GLSL statements with which a program that makes a chunk texture finds its quad: declares `head`, `query`, `key`, and
 * with a layout `liveQuarters`; writes `otherwise` and ends where no query of the quad sees a key of it.
 */
export function enterScoreQuad({layout}: Sparse, otherwise: string): string {
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
  int tileRowPair = index / pairs(tileKeys);
  int tile = tileRowPair / pairs(tileQueries);
  ivec2 within = 2 * ivec2(tileRowPair % pairs(tileQueries), index % pairs(tileKeys));
  ${place}
  // Textures may be larger than what they hold.
  if (headIndex >= batch * heads) { setOutput(vec4(0.0)); return; }
  Head head = makeHead(headIndex);
  ivec2 seen = visibleKeys(head, query, query + 1);
  if (query >= queries || key + 1 < seen.x || key >= seen.y) { setOutput(${otherwise}); return; }`;
}

/**
 * GLSL that runs `body` for each tile that the rows `query` and `query + 1` of `head` cross. There, `firstTexel` is the
 * number of the first texel of theirs in the tile, `firstKey` the tile's first key, and `seen` the keys that they see,
 * counted from it.
 */
export function overTilesOfRows({layout}: Sparse, body: string): string {
  const inTile = (tile: string, row: string, firstKey: string) => `
    int firstTexel = (${tile} * pairs(tileQueries) + ${row} / 2) * pairs(tileKeys);
    int firstKey = ${firstKey};
    ivec2 seen = clamp(visibleKeys(head, query, query + 1) - firstKey, 0, tileKeys);
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
 * GLSL that runs `body` for each tile that the columns `key` and `key + 1` of `head` cross. There, `firstTexel` is the
 * number of the first texel of theirs in the tile, from where texels below are pairs(tileKeys) on, `firstQuery` the
 * tile's first query, and `seen` the queries that see them, counted from it.
 */
export function overTilesOfColumns({layout}: Sparse, body: string): string {
  const inTile = (tile: string, firstQuery: string) => `
    int firstTexel = ${tile} * pairs(tileQueries) * pairs(tileKeys) + (key - chunkStart) % tileKeys / 2;
    int firstQuery = ${firstQuery};
    ivec2 seen = clamp(visibleQueries(head, key, key + 1) - firstQuery, 0, tileQueries);
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
