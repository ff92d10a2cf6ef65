/** Programs that make statistics of query rows, [B, H, Sq, 2]: a texel holds two numbers of two neighbouring rows. */
import {LOWEST_FLOAT32} from '../../src/kernel_names.js';
import {type AttentionVariant, headFunctions, headInputs, quadWalk} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {lanes, planeNames} from './register_tiles_glsl.js';
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
  {side}: AttentionVariant,
  walk: Walk,
  count: string,
  body: (planes: string[]) => string,
  input: string,
): string {
  const along = (i: number) => walkTogether([walk], count, body(lanes(side).map((j) => `${input}${i}${j}`)));
  return `${walk.declare}
    ${side === 1 ? along(0) : `if (query / 2 % 2 == 0) {${along(0)}} else {${along(1)}}`}`;
}

/** Forward: (maximum, sum of exp(score − maximum)) of both rows, over the chunk and, if there are any, those before. */
export function runningStatsProgram(variant: AttentionVariant, hasPrevious: boolean): PackedProgram {
  const {side} = variant;
  const firstTile = `seen.x / ${2 * side}`;
  const tiles = `(registerTiles(seen.y) - ${firstTile})`;
  const walk = texelWalk('scores00', 'scores', `firstTexel + ${firstTile}`, '1');
  const overScores = (body: (scores: string) => string) =>
    overTilesOfRows(
      variant,
      2,
      alongPlanes(
        variant,
        walk,
        tiles,
        (planes) => planes.map((plane) => body(`texelFetch(${plane}, scoresAt, 0)`)).join('\n      '),
        'scores',
      ),
    );
  return {
    inputs: [
      ...planeNames('scores', side),
      ...(hasPrevious ? (['previousStats'] as const) : []),
      ...rowInputs(variant),
      ...headInputs(variant),
    ],
    code: `
${headFunctions(variant)}
void main() {
  ${enterRowPair}
  vec4 previous = ${hasPrevious ? texel('previousStats', 'index') : 'vec4(lowestMaximum, 0.0, lowestMaximum, 0.0)'};
  vec2 maximum = previous.xz;
  ${overScores((scores) => `{ vec4 scores4 = ${scores}; maximum = max(maximum, max(scores4.xz, scores4.yw)); }`)}
  vec2 sum = previous.yw * exp(previous.xz - maximum);
  ${overScores((scores) => `{ vec4 weights = exp(${scores} - maximum.xxyy); sum += weights.xz + weights.yw; }`)}
  setOutput(vec4(maximum.x, sum.x, maximum.y, sum.y));
}`,
  };
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
  const {side} = variant;
  const keysPerTile = 2 * side;
  const walk = texelWalk('weights00', 'weights', `firstTexel + seen.x / ${keysPerTile} + done`, '1');
  const addQuad = (plane: string, j: number) => `
      vec4 quad${j} = ${weightsAre === 'probabilities' ? 'abs' : ''}(texelFetch(${plane}, weightsAt, 0));
      weighted += quad${j} * vec4(abs(aheadOf(head, query, key + ${2 * j})));
      plain += quad${j};`;
  return {
    inputs: [
      ...planeNames('weights', side),
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
    int tiles = registerTiles(seen.y) - seen.x / ${keysPerTile};
    // Sums of few terms, and sums of these, round less than one of many.
    for (int done = 0; done < tiles; done += ${8 / side}) {
      vec4 weighted = vec4(0.0);
      vec4 plain = vec4(0.0);
      ${alongPlanes(
        variant,
        walk,
        `min(${8 / side}, tiles - done)`,
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
export function deltaProgram(variant: AttentionVariant, hasDLse: boolean): PackedProgram {
  const output = quadWalk(variant, 'o', 'along', 'query', '0');
  const dOutput = quadWalk(variant, 'dO', 'along', 'query', '0');
  return {
    inputs: ['o', 'dO', ...(hasDLse ? (['dSoftmaxStats'] as const) : [])],
    code: `
${headFunctions({...variant, layout: false, slopes: false, queryLengths: false, keyLengths: false})}
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
