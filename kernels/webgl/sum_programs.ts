/**
 * Programs that sum rows of a matrix, weighted by planes of a chunk: along its rows (output, dQ) or down its columns (dK,
 * dV). They make planes, in BHSD order, out of which result_programs.ts makes results, chunk by chunk.
 */
import {type AttentionVariant, depthOf, headFunctions, headInputs, type Operand, quadWalk} from './attention_glsl.js';
import {
  forEachQuad,
  lanes,
  type PlanesProgram,
  planeNames,
  type RegisterTile,
  setTargets,
  transposed,
} from './register_tiles_glsl.js';
import {texelWalk, type Walk, walkTogether} from './textures_glsl.js';
import {columnInputs, overTilesOfColumns, overTilesOfRows, rowInputs} from './tiles_glsl.js';

/**
 * GLSL that finds the register tile of a result, whose quads lie `resultTilesAcross` columns of quads apart, and leaves those
 * beyond it at 0.
 */
function enterResult(
  tile: RegisterTile,
  names: {row: string; rows: string; matrixIndex: string; matrices: string; columns: string},
): string {
  const {row, rows, matrixIndex, matrices, columns} = names;
  const {down, across} = tile;
  return `
  int index = outputTexel();
  int resultTilesAcross = registerTiles(${columns}, ${across});
  int resultTilesDown = registerTiles(${rows}, ${down});
  int column = index % resultTilesAcross;
  int rowOfTiles = index / resultTilesAcross;
  int ${row} = ${2 * down} * (rowOfTiles % resultTilesDown);
  int ${matrixIndex} = rowOfTiles / resultTilesDown;
  if (${matrixIndex} >= ${matrices}) { ${setTargets(tile, () => 'vec4(0.0)')} return; }`;
}

/** More make the programs longer, but no faster. */
const STEPS_AT_ONCE = 2;

/** What a register tile of a result is summed from. */
interface WeightedRows {
  /** That of the result. */
  result: RegisterTile;
  /** How many pairs of rows go with a register tile of the weights. */
  pairs: number;
  /** Over the register tiles of the weights, whose planes are `weights${ij}`. */
  weights: Walk;
  /** How a weight is read: absent where it counts as it is. */
  weight?: (fetch: string) => string;
  matrix: Operand;
  /** The matrix's row where `seen` begins to be counted. */
  firstRow: string;
  /** Components of the weights and of the rows of a quad that go with the first and with the second row. */
  first: {weights: string; hide: string};
  second: {weights: string; hide: string};
  /** Which plane of weights has the quad that goes with this pair of rows and this lane of the result. */
  planeOf: (pair: number, lane: number) => string;
}

/**
 * GLSL that adds to `sum${ij}` the rows `seen` of a matrix, in as many columns of quads as the result's register tile has, by their weights. The register tile
 * at the end is taken apart: rows that are not seen may be padding, whose content nobody vouches for.
 */
function addWeightedRows(variant: AttentionVariant, sums: WeightedRows): string {
  const {result, pairs, weights, weight = (fetch) => fetch, matrix, firstRow, first, second, planeOf} = sums;
  const rowsPerTile = 2 * pairs;
  const walkOf = (pair: number, column: number) =>
    quadWalk(
      variant,
      matrix,
      {down: pairs},
      `${firstRow} + ${rowsPerTile} * firstTile + ${2 * pair}`,
      `column + ${column} * resultTilesAcross`,
      `${matrix}${pair}${column}`,
    );
  const rowWalks = lanes(pairs).flatMap((pair) => lanes(result.across).map((column) => walkOf(pair, column)));
  const fetchAll = [
    ...planeNames('weights', variant.tile).map(
      (name) => `vec4 w_${name} = ${weight(`texelFetch(${name}, weightsAt, 0)`)};`,
    ),
    ...rowWalks.map(({fetch}, n) => `vec4 x${Math.floor(n / result.across)}${n % result.across} = ${fetch};`),
  ].join('\n      ');
  const w = (pair: number, lane: number) => `w_weights${planeOf(pair, lane)}`;
  const product = (pair: number, lane: number, column: number) =>
    `${w(pair, lane)}.${first.weights} * x${pair}${column}.xyxy + ${w(pair, lane)}.${second.weights} * x${pair}${column}.zwzw`;
  const addAll = forEachQuad(
    result,
    (ij, lane, column) =>
      `sum${ij} += ${lanes(pairs)
        .map((pair) => product(pair, lane, column))
        .join(' + ')};`,
  );
  const hideRow = (row: number) => {
    const pair = row >> 1;
    const {hide} = row % 2 === 0 ? first : second;
    const half = row % 2 === 0 ? 'xy' : 'zw';
    const hidden = [
      ...lanes(result.down).map((lane) => `${w(pair, lane)}.${hide} = vec2(0.0);`),
      ...lanes(result.across).map((column) => `x${pair}${column}.${half} = vec2(0.0);`),
    ];
    return `if (rest <= ${row}) { ${hidden.join(' ')} }`;
  };
  return `
    if (seen.y > seen.x) {
    int firstTile = seen.x / ${rowsPerTile};
    int wholeTiles = seen.y / ${rowsPerTile};
    int rest = seen.y - ${rowsPerTile} * wholeTiles;
    ${weights.declare}
    ${rowWalks.map(({declare}) => declare).join('\n    ')}
    ${walkTogether([weights, ...rowWalks], '(wholeTiles - firstTile)', `${fetchAll}\n      ${addAll}`, STEPS_AT_ONCE)}
    if (rest > 0) {
      ${fetchAll}
      ${Array.from({length: rowsPerTile - 1}, (_, row) => hideRow(row + 1)).join('\n      ')}
      ${addAll}
    }
    }`;
}

/** sum[i, ·] = Σ_j weights[i, j]·matrix[j, ·] over the keys j of the chunk, for all queries i. */
export function sumOverKeysProgram(variant: AttentionVariant, matrix: 'k' | 'v'): PlanesProgram {
  const {tile} = variant;
  return {
    inputs: [...planeNames('weights', tile), matrix, ...rowInputs(variant), ...headInputs(variant)],
    tile,
    code: `
${headFunctions(variant)}
void main() {
  ${enterResult(tile, {row: 'query', rows: 'queries', matrixIndex: 'headIndex', matrices: 'batch * heads', columns: depthOf(matrix)})}
  Head head = makeHead(headIndex);
  ${forEachQuad(tile, (ij) => `vec4 sum${ij} = vec4(0.0);`)}
  ${overTilesOfRows(
    variant,
    2 * tile.down,
    addWeightedRows(variant, {
      result: tile,
      pairs: tile.across,
      weights: texelWalk('weights00', 'weights', 'firstTexel + firstTile', '1'),
      matrix,
      firstRow: 'firstKey',
      first: {weights: 'xxzz', hide: 'xz'},
      second: {weights: 'yyww', hide: 'yw'},
      planeOf: (pair, lane) => `${lane}${pair}`,
    }),
  )}
  ${setTargets(tile, (ij) => `sum${ij}`)}
}`,
  };
}

/**
 * sum[j, ·] = Σ_i weights[i, j]·matrix[i, ·] over all queries i of all heads that share a key/value head, for the keys j
 * of the chunk, which the planes alone hold. Of probabilities those that dropout dropped count nothing.
 */
export function sumOverQueriesProgram(variant: AttentionVariant, matrix: 'q' | 'dO'): PlanesProgram {
  const {tile} = variant;
  const result = transposed(tile);
  const dropped = matrix === 'dO' && variant.dropout;
  return {
    inputs: [...planeNames('weights', tile), matrix, ...columnInputs(variant), ...headInputs(variant)],
    tile: result,
    code: `
${headFunctions(variant)}
void main() {
  ${enterResult(result, {row: 'keyOfChunk', rows: 'chunkKeys', matrixIndex: 'keyHeadIndex', matrices: 'batch * keyHeads', columns: depthOf(matrix)})}
  int key = chunkStart + keyOfChunk;
  int group = heads / keyHeads;
  ${forEachQuad(result, (ij) => `vec4 sum${ij} = vec4(0.0);`)}
  for (int member = 0; member < group; member++) {
    Head head = makeHead(keyHeadIndex / keyHeads * heads + keyHeadIndex % keyHeads * group + member);
    ${overTilesOfColumns(
      variant,
      2 * tile.across,
      addWeightedRows(variant, {
        result,
        pairs: tile.down,
        weights: texelWalk('weights00', 'weights', 'firstTexel + firstTile * tilesAcross', 'tilesAcross'),
        ...(dropped && {weight: (fetch: string) => `max(${fetch}, 0.0)`}),
        matrix,
        firstRow: 'firstQuery',
        first: {weights: 'xxyy', hide: 'xy'},
        second: {weights: 'zzww', hide: 'zw'},
        planeOf: (pair, lane) => `${pair}${lane}`,
      }),
    )}
  }
  ${setTargets(result, (ij) => `sum${ij}`)}
}`,
  };
}
