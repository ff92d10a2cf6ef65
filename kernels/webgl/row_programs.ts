/** Programs that make statistics of query rows, [B, H, Sq, 2]: a texel holds two numbers of two neighbouring rows. */
import {LOWEST_FLOAT32} from '../../src/kernel_names.js';
import {type AttentionVariant, headFunctions, headInputs, quadWalk} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {texel, texelWalk, textureAccess, walkTogether} from './textures_glsl.js';
import {overTilesOfRows, rowInputs} from './tiles_glsl.js';

const enterRowPair = `
  int index = outputTexel();
  int query = 2 * (index % pairs(queries));
  int headIndex = index / pairs(queries);
  if (headIndex >= batch * heads) { setOutput(vec4(0.0)); return; }
  Head head = makeHead(headIndex);`;

/** Forward: (maximum, sum of exp(score − maximum)) of both rows, over the chunk and, if there are any, those before. */
export function runningStatsProgram(variant: AttentionVariant, hasPrevious: boolean): PackedProgram {
  const firstScore = 'firstTexel + seen.x / 2';
  const steps = '(pairs(seen.y) - seen.x / 2)';
  const forMaximum = texelWalk('scores', 'forMaximum', firstScore, '1');
  const forSum = texelWalk('scores', 'forSum', firstScore, '1');
  return {
    inputs: [
      'scores',
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
  ${overTilesOfRows(
    variant,
    `${forMaximum.declare}
    ${walkTogether(
      [forMaximum],
      steps,
      `vec4 scores4 = ${forMaximum.fetch};
      maximum = max(maximum, max(scores4.xz, scores4.yw));`,
    )}`,
  )}
  vec2 sum = previous.yw * exp(previous.xz - maximum);
  ${overTilesOfRows(
    variant,
    `${forSum.declare}
    ${walkTogether(
      [forSum],
      steps,
      `vec4 weights = exp(${forSum.fetch} - maximum.xxyy);
      sum += weights.xz + weights.yw;`,
    )}`,
  )}
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
  const weights = texelWalk('weights', 'weights', 'firstTexel + seen.x / 2', '1');
  const weight = weightsAre === 'probabilities' ? `abs(${weights.fetch})` : weights.fetch;
  return {
    inputs: ['weights', ...(hasPrevious ? (['previous'] as const) : []), ...rowInputs(variant), ...headInputs(variant)],
    code: `
${headFunctions(variant)}
void main() {
  ${enterRowPair}
  vec4 weightedSums = vec4(0.0);
  vec4 plainSums = vec4(0.0);
  ${overTilesOfRows(
    variant,
    `int key = firstKey + 2 * (seen.x / 2);
    int texels = pairs(seen.y) - seen.x / 2;
    ${weights.declare}
    // Sums of few terms, and sums of these, round less than one of many.
    for (int done = 0; done < texels; done += 8) {
      vec4 weighted = vec4(0.0);
      vec4 plain = vec4(0.0);
      ${walkTogether(
        [weights],
        'min(8, texels - done)',
        `vec4 weights4 = ${weight};
        weighted += weights4 * vec4(abs(aheadOf(head, query, key)));
        plain += weights4;
        key += 2;`,
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
