/**
 * Programs that sum rows of a matrix, weighted by planes of a chunk: along its rows (output, dQ) or down its columns (dK,
 * dV). Their results are planes, in BHSD order, and are carried from chunk to chunk.
 */
import {
  type AttentionVariant,
  declareRowTexels,
  depthOf,
  headFunctions,
  headInputs,
  type Operand,
  quadWalk,
} from './attention_glsl.js';
import {forEachQuad, lanes, planeNames, setTargets, targetNames} from './register_tiles_glsl.js';
import type {RenderTargetsProgram} from './render_targets.js';
import {texel, texelWalk, type Walk, walkTogether} from './textures_glsl.js';
import {columnInputs, overTilesOfColumns, overTilesOfRows, rowInputs} from './tiles_glsl.js';

const previousPlanes = ({side}: AttentionVariant, hasPrevious: boolean) =>
  hasPrevious ? planeNames('previous', side) : [];

/** GLSL that finds the register tile of a result, and leaves those beyond it at 0. */
function enterResult(
  {side}: AttentionVariant,
  names: {row: string; rows: string; matrixIndex: string; matrices: string; columns: string},
): string {
  const {row, rows, matrixIndex, matrices, columns} = names;
  return `
  int index = outputTexel();
  int column = ${side} * (index % registerTiles(${columns}));
  int rowOfTiles = index / registerTiles(${columns});
  int ${row} = ${2 * side} * (rowOfTiles % registerTiles(${rows}));
  int ${matrixIndex} = rowOfTiles / registerTiles(${rows});
  if (${matrixIndex} >= ${matrices}) { ${setTargets(side, () => 'vec4(0.0)')} return; }`;
}

/** What a register tile of a result is summed from. */
interface WeightedRows {
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
 * GLSL that adds to `sum${ij}` the rows `seen` of a matrix, in `side` columns of quads, by their weights. The register tile
 * at the end is taken apart: rows that are not seen may be padding, whose content nobody vouches for.
 */
function addWeightedRows(variant: AttentionVariant, sums: WeightedRows): string {
  const {side} = variant;
  const {weights, weight = (fetch) => fetch, matrix, firstRow, first, second, planeOf} = sums;
  const rowsPerTile = 2 * side;
  const walkOf = (pair: number, column: number) =>
    quadWalk(
      variant,
      matrix,
      {down: side},
      `${firstRow} + ${rowsPerTile} * firstTile + ${2 * pair}`,
      `column + ${column}`,
      `${matrix}${pair}${column}`,
    );
  const rowWalks = lanes(side).flatMap((pair) => lanes(side).map((column) => walkOf(pair, column)));
  const fetchAll = [
    ...planeNames('weights', side).map((name) => `vec4 w_${name} = ${weight(`texelFetch(${name}, weightsAt, 0)`)};`),
    ...rowWalks.map(({fetch}, n) => `vec4 x${Math.floor(n / side)}${n % side} = ${fetch};`),
  ].join('\n      ');
  const w = (pair: number, lane: number) => `w_weights${planeOf(pair, lane)}`;
  const product = (pair: number, lane: number, column: number) =>
    `${w(pair, lane)}.${first.weights} * x${pair}${column}.xyxy + ${w(pair, lane)}.${second.weights} * x${pair}${column}.zwzw`;
  const addAll = forEachQuad(
    side,
    (ij, lane, column) =>
      `sum${ij} += ${lanes(side)
        .map((pair) => product(pair, lane, column))
        .join(' + ')};`,
  );
  const hideRow = (row: number) => {
    const pair = row >> 1;
    const {hide} = row % 2 === 0 ? first : second;
    const half = row % 2 === 0 ? 'xy' : 'zw';
    const hidden = lanes(side).flatMap((lane) => [
      `${w(pair, lane)}.${hide} = vec2(0.0);`,
      `x${pair}${lane}.${half} = vec2(0.0);`,
    ]);
    return `if (rest <= ${row}) { ${hidden.join(' ')} }`;
  };
  return `
    if (seen.y > seen.x) {
    int firstTile = seen.x / ${rowsPerTile};
    int wholeTiles = seen.y / ${rowsPerTile};
    int rest = seen.y - ${rowsPerTile} * wholeTiles;
    ${weights.declare}
    ${rowWalks.map(({declare}) => declare).join('\n    ')}
    ${walkTogether([weights, ...rowWalks], '(wholeTiles - firstTile)', `${fetchAll}\n      ${addAll}`)}
    if (rest > 0) {
      ${fetchAll}
      ${Array.from({length: rowsPerTile - 1}, (_, row) => hideRow(row + 1)).join('\n      ')}
      ${addAll}
    }
    }`;
}

/**
 * sum[i, ·] = Σ_j weights[i, j]·matrix[j, ·] over the keys j of the chunk. In the forward pass (`matrix` v) what the
 * chunks before gave is rescaled to the new maximum, and the last chunk divides by the sum (FlashAttention-2, algorithm
 * 1); for dQ (`matrix` k) it is added as it is.
 */
export function sumOverKeysProgram(
  variant: AttentionVariant,
  matrix: 'k' | 'v',
  hasPrevious: boolean,
): RenderTargetsProgram {
  const {side} = variant;
  const previous = (ij: string) => texel(`previous${ij}`, 'index');
  const factor = (i: number) => `vec2 factor${i} = exp(previousStats${i} - stats${i}).xz;`;
  const addPrevious = `
  ${declareRowTexels(variant, 'previousStats', 'previousStats')}
  ${lanes(side).map(factor).join('\n  ')}
  ${forEachQuad(side, (ij, i) => `sum${ij} += ${previous(ij)} * factor${i}.xxyy;`)}`;
  const softmax = `
  ${declareRowTexels(variant, 'stats', 'stats')}
  ${hasPrevious ? addPrevious : ''}
  if (isLastChunk == 1) {
    // Only a row that saw nothing has a sum below exp(0).
    ${forEachQuad(side, (ij, i) => `sum${ij} = mix(sum${ij} / stats${i}.yyww, vec4(0.0), lessThan(stats${i}.yyww, vec4(0.5)));`)}
  }`;
  const gradient = forEachQuad(side, (ij) => `sum${ij} = sum${ij} * scale${hasPrevious ? ` + ${previous(ij)}` : ''};`);
  const statsInputs = hasPrevious ? (['stats', 'previousStats'] as const) : (['stats'] as const);
  return {
    inputs: [
      ...planeNames('weights', side),
      matrix,
      ...previousPlanes(variant, hasPrevious),
      ...(matrix === 'v' ? statsInputs : []),
      ...rowInputs(variant),
      ...headInputs(variant),
    ],
    targets: targetNames(side),
    code: `
${headFunctions(variant)}
void main() {
  ${enterResult(variant, {row: 'query', rows: 'queries', matrixIndex: 'headIndex', matrices: 'batch * heads', columns: depthOf(matrix)})}
  Head head = makeHead(headIndex);
  ${forEachQuad(side, (ij) => `vec4 sum${ij} = vec4(0.0);`)}
  ${overTilesOfRows(
    variant,
    2 * side,
    addWeightedRows(variant, {
      weights: texelWalk('weights00', 'weights', 'firstTexel + firstTile', '1'),
      matrix,
      firstRow: 'firstKey',
      first: {weights: 'xxzz', hide: 'xz'},
      second: {weights: 'yyww', hide: 'yw'},
      planeOf: (pair, lane) => `${lane}${pair}`,
    }),
  )}
  ${matrix === 'v' ? softmax : gradient}
  ${setTargets(side, (ij) => `sum${ij}`)}
}`,
  };
}

/**
 * sum[j, ·] = Σ_i weights[i, j]·matrix[i, ·] over all queries i of all heads that share a key/value head, for the keys j
 * of the chunk; the other keys keep what they had. dV has the probabilities as weights, without those that dropout
 * dropped; dK has dS, times scale.
 */
export function sumOverQueriesProgram(
  variant: AttentionVariant,
  matrix: 'q' | 'dO',
  hasPrevious: boolean,
): RenderTargetsProgram {
  const {side} = variant;
  const dropped = matrix === 'dO' && variant.dropout;
  const factor = matrix === 'q' ? 'scale' : dropped ? 'dropoutFactor' : '1.0';
  return {
    inputs: [
      ...planeNames('weights', side),
      matrix,
      ...previousPlanes(variant, hasPrevious),
      ...columnInputs(variant),
      ...headInputs(variant),
    ],
    targets: targetNames(side),
    code: `
${headFunctions(variant)}
void main() {
  ${enterResult(variant, {row: 'key', rows: 'keys', matrixIndex: 'keyHeadIndex', matrices: 'batch * keyHeads', columns: depthOf(matrix)})}
  if (key < chunkStart || key >= chunkStart + chunkKeys) {
    ${setTargets(side, (ij) => (hasPrevious ? texel(`previous${ij}`, 'index') : 'vec4(0.0)'))}
    return;
  }
  int group = heads / keyHeads;
  ${forEachQuad(side, (ij) => `vec4 sum${ij} = vec4(0.0);`)}
  for (int member = 0; member < group; member++) {
    Head head = makeHead(keyHeadIndex / keyHeads * heads + keyHeadIndex % keyHeads * group + member);
    ${overTilesOfColumns(
      variant,
      2 * side,
      addWeightedRows(variant, {
        weights: texelWalk(
          'weights00',
          'weights',
          'firstTexel + firstTile * registerTiles(tileKeys)',
          'registerTiles(tileKeys)',
        ),
        ...(dropped && {weight: (fetch: string) => `max(${fetch}, 0.0)`}),
        matrix,
        firstRow: 'firstQuery',
        first: {weights: 'xxyy', hide: 'xy'},
        second: {weights: 'zzww', hide: 'zw'},
        planeOf: (pair, lane) => `${pair}${lane}`,
      }),
    )}
  }
  ${setTargets(side, (ij) => `sum${ij} * ${factor}`)}
}`,
  };
}
