/** Programs that make statistics of query rows, [B, H, Sq, 2]: a texel holds two numbers of two neighbouring rows. */
import {type AttentionOrder, LOWEST_FLOAT32} from '../../src/kernel_names.js';
import {type AttentionVariant, declareRowTexels, headFunctions, headInputs, quadWalk} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {
  assembleProgram,
  lanes,
  type PlanesProgram,
  planeNames,
  type RegisterTile,
  setTargets,
} from './register_tiles_glsl.js';
import {texel, texelWalk, textureAccess, type Walk, walkTogether} from './textures_glsl.js';
import {overTilesOfRows, rowInputs} from './tiles_glsl.js';

const enterRowPair = `
  int index = outputTexel();
  int query = 2 * (index % pairs(queries));
  int headIndex = index / pairs(queries);
  if (headIndex >= batch * heads) { setOutput(vec4(0.0)); return; }
  Head head = makeHead(headIndex);`;

/**
 * GLSL that walks along both rows, over the register tiles of a chunk that they see keys in; `body` is given a row of
 * planes, which is that of the rows, and the walk's place.
 */
function alongPlanes(
  {tile}: AttentionVariant,
  walk: Walk,
  count: string,
  body: (planes: string[]) => string,
  input: string,
): string {
  const {down, across} = tile;
  const along = (i: number) => walkTogether([walk], count, body(lanes(across).map((j) => `${input}${i}${j}`)));
  const rows = lanes(down).map((i) => `${i < down - 1 ? `if (query / 2 % ${down} == ${i}) ` : ''}{${along(i)}}`);
  return `${walk.declare}
    ${rows.join(' else ')}`;
}

/**
 * Forward: (maximum, sum of exp(score − maximum)) of all rows of a register tile, over the chunk and, if there are any,
 * those before. Both at once: what is summed up is rescaled where the maximum rises.
 */
export function runningStatsProgram(variant: AttentionVariant, hasPrevious: boolean): PlanesProgram {
  const {tile} = variant;
  const {down, across} = tile;
  const result = statsTile(tile);
  const firstTile = `seen.x / ${2 * across}`;
  const tiles = `(registerTiles(seen.y, ${across}) - ${firstTile})`;
  const walk = texelWalk('scores00', 'scores', `firstTexel + ${firstTile}`, '1');
  const addRow = (i: number) => {
    const fetched = lanes(across).map((j) => `vec4 scores${j} = texelFetch(scores${i}${j}, scoresAt, 0);`);
    const raised = lanes(across).reduce((most, j) => `max(${most}, max(scores${j}.xz, scores${j}.yw))`, `maximum${i}`);
    const added = lanes(across).map(
      (j) => `weights = exp(scores${j} - raised.xxyy); sum${i} += weights.xz + weights.yw;`,
    );
    return `{
        ${fetched.join(' ')}
        vec2 raised = ${raised};
        vec4 weights;
        sum${i} *= exp(maximum${i} - raised);
        ${added.join(' ')}
        maximum${i} = raised;
      }`;
  };
  const eachRow = (code: (i: number) => string) => lanes(down).map(code).join('\n  ');
  return {
    inputs: [
      ...planeNames('scores', tile),
      ...(hasPrevious ? (['previousStats'] as const) : []),
      ...rowInputs(variant),
      ...headInputs(variant),
    ],
    tile: result,
    code: `
${headFunctions(variant)}
void main() {
  int index = outputTexel();
  int tilesDown = registerTiles(queries, ${down});
  int query = ${2 * down} * (index % tilesDown);
  int headIndex = index / tilesDown;
  if (headIndex >= batch * heads) { ${setTargets(result, () => 'vec4(0.0)')} return; }
  Head head = makeHead(headIndex);
  ${
    hasPrevious
      ? declareRowTexels(variant, 'previous', 'previousStats')
      : eachRow((i) => `vec4 previous${i} = vec4(lowestMaximum, 0.0, lowestMaximum, 0.0);`)
  }
  ${eachRow((i) => `vec2 maximum${i} = previous${i}.xz; vec2 sum${i} = previous${i}.yw;`)}
  ${overTilesOfRows(variant, 2 * down, `${walk.declare}\n    ${walkTogether([walk], tiles, eachRow(addRow), 2)}`)}
  ${setTargets(result, (_, i) => `vec4(maximum${i}.x, sum${i}.x, maximum${i}.y, sum${i}.y)`)}
}`,
  };
}

/** Register tiles of statistics, of the rows of such a one. */
function statsTile({down}: RegisterTile): RegisterTile {
  return {down, across: 1};
}

/** Puts these statistics together. */
export function assembleStatsProgram({tile}: AttentionVariant): PackedProgram {
  return assembleProgram({tile: statsTile(tile), rows: 'queries', columns: '2'});
}

/** Forward: softmaxStats of both rows, from the running (maximum, sum) of all chunks. */
export function softmaxStatsProgram(): PackedProgram {
  return {
    inputs: ['stats'],
    code: `
${textureAccess}
void main() {
  vec4 stats4 = ${texel('stats', 'outputTexel()')};
  // The largest term of a sum is exp(0), so only a row that saw nothing has less; NaN is not less than anything.
  bvec4 unseen = lessThan(stats4.yyww, vec4(0.5));
  setOutput(mix(stats4, vec4(${LOWEST_FLOAT32}, 1.0, ${LOWEST_FLOAT32}, 1.0), unseen));
}`,
  };
}

/**
 * Backward: (Σ_j weight·distance, Σ_j weight) of both rows, over the keys j of the chunk and, if there are any, those
 * before. The weights are dS, or the probabilities, whose signs say what dropout drops.
 */
export function distanceSumsProgram(
  variant: AttentionVariant,
  weightsAre: 'dScores' | 'probabilities',
  hasPrevious: boolean,
): PackedProgram {
  const {tile} = variant;
  const keysPerTile = 2 * tile.across;
  const walk = texelWalk('weights00', 'weights', `firstTexel + seen.x / ${keysPerTile} + done`, '1');
  const addQuad = (plane: string, j: number) => `
      vec4 quad${j} = ${weightsAre === 'probabilities' ? 'abs' : ''}(texelFetch(${plane}, weightsAt, 0));
      weighted += quad${j} * vec4(abs(aheadOf(head, query, key + ${2 * j})));
      plain += quad${j};`;
  return {
    inputs: [
      ...planeNames('weights', tile),
      ...(hasPrevious ? (['previous'] as const) : []),
      ...rowInputs(variant),
      ...headInputs(variant),
    ],
    code: `
${headFunctions(variant)}
void main() {
  ${enterRowPair}
  vec4 weightedSums = vec4(0.0);
  vec4 plainSums = vec4(0.0);
  ${overTilesOfRows(
    variant,
    2,
    `int key = firstKey + ${keysPerTile} * (seen.x / ${keysPerTile});
    int tiles = registerTiles(seen.y, ${tile.across}) - seen.x / ${keysPerTile};
    // Sums of few terms, and sums of these, round less than one of many.
    for (int done = 0; done < tiles; done += ${8 / tile.across}) {
      vec4 weighted = vec4(0.0);
      vec4 plain = vec4(0.0);
      ${alongPlanes(
        variant,
        walk,
        `min(${8 / tile.across}, tiles - done)`,
        (planes) => `${planes.map(addQuad).join('')}
      key += ${keysPerTile};`,
        'weights',
      )}
      weightedSums += weighted;
      plainSums += plain;
    }`,
  )}
  vec4 sums = vec4(weightedSums.x + weightedSums.y, plainSums.x + plainSums.y,
    weightedSums.z + weightedSums.w, plainSums.z + plainSums.w);
  setOutput(sums${hasPrevious ? ` + ${texel('previous', 'index')}` : ''});
}`,
  };
}

/**
 * Backward: (share, 0) of both rows, their part of dSlopes = −Σ dS·distance, from the distance sums of all chunks. A
 * row's dS add up to its dLse, but rounding leaves a residual, which distances would multiply. So distances count from
 * their mean under P: the same number where the residual is 0, and rounding less where it is not. And where a row's P,
 * recomputed, do not add up to 1, all of its sums are off by that factor, so they are divided by it.
 */
export function slopeSharesProgram(hasDLse: boolean): PackedProgram {
  return {
    inputs: ['dScoreSums', 'probabilitySums', ...(hasDLse ? (['dSoftmaxStats'] as const) : [])],
    code: `
${textureAccess}
void main() {
  int index = outputTexel();
  vec4 probabilitySums4 = ${texel('probabilitySums', 'index')};
  // Rows that see no key have no P, and no dS either.
  vec4 factors = 1.0 / max(probabilitySums4.yyww, vec4(0.5));
  probabilitySums4 *= factors;
  vec4 dScoreSums4 = ${texel('dScoreSums', 'index')} * factors;
  vec2 residual = dScoreSums4.yw${hasDLse ? ` - ${texel('dSoftmaxStats', 'index')}.xz` : ''};
  vec2 share = residual * probabilitySums4.xz - dScoreSums4.xz;
  setOutput(vec4(share.x, 0.0, share.y, 0.0));
}`,
  };
}

/** Backward: (delta, 0) of both rows, delta = Σ dOutput·output − dLse. */
export function deltaProgram(order: AttentionOrder, hasDLse: boolean): PackedProgram {
  const output = quadWalk({order}, 'o', 'along', 'query', '0');
  const dOutput = quadWalk({order}, 'dO', 'along', 'query', '0');
  return {
    inputs: ['o', 'dO', ...(hasDLse ? (['dSoftmaxStats'] as const) : [])],
    code: `
${headFunctions({layout: false, slopes: false, queryLengths: false, keyLengths: false})}
void main() {
  ${enterRowPair}
  // Two short sums per row round less than one long one.
  vec4 sums = vec4(0.0);
  ${output.declare}
  ${dOutput.declare}
  ${walkTogether([output, dOutput], 'valueDepth / 2', `sums += ${output.fetch} * ${dOutput.fetch};`)}
  if (valueDepth % 2 == 1) { sums.xz += ${output.fetch}.xz * ${dOutput.fetch}.xz; }
  vec2 delta = sums.xz + sums.yw${hasDLse ? ` - ${texel('dSoftmaxStats', 'index')}.xz` : ''};
  setOutput(vec4(delta.x, 0.0, delta.y, 0.0));
}`,
  };
}
