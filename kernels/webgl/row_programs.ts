/**
 * Programs that make statistics of query rows. A texel holds two numbers of two neighbouring rows: a texture of
 * [B·H, ⌈Sq/2⌉, 2, 2].
 */
import {LOWEST_FLOAT32} from '../../src/kernel_names.js';
import {
  type AttentionVariant,
  headFunctions,
  headInputs,
  quadWalk,
  texel,
  texelWalk,
  textureAccess,
  walkTogether,
} from './attention_glsl.js';
import type {AttentionProgram} from './attention_run.js';

const enterRowPair = `
  int index = outputTexel();
  int query = 2 * (index % pairs(queries));
  int headIndex = index / pairs(queries);
  if (headIndex >= batch * heads) { setOutput(vec4(0.0)); return; }
  Head head = makeHead(headIndex);`;

/** Forward: (maximum, sum of exp(score − maximum)) of both rows, over the chunk and, if there are any, those before. */
export function runningStatsProgram(variant: AttentionVariant, hasPrevious: boolean): AttentionProgram {
  const firstScore = 'index * pairs(chunkKeys) + seen.x / 2';
  const forMaximum = texelWalk('scores', 'forMaximum', firstScore, '1');
  const forSum = texelWalk('scores', 'forSum', firstScore, '1');
  return {
    inputs: ['scores', ...(hasPrevious ? (['previousStats'] as const) : []), ...headInputs(variant)],
    code: `
${headFunctions(variant)}
void main() {
  ${enterRowPair}
  ivec2 seen = visibleInChunk(head, query);
  int steps = pairs(seen.y) - seen.x / 2;
  vec4 previous = ${hasPrevious ? texel('previousStats', 'index') : 'vec4(lowestMaximum, 0.0, lowestMaximum, 0.0)'};
  vec2 maximum = previous.xz;
  ${forMaximum.declare}
  ${walkTogether(
    [forMaximum],
    'steps',
    `vec4 scores4 = ${forMaximum.fetch};
    maximum = max(maximum, max(scores4.xz, scores4.yw));`,
  )}
  vec2 sum = previous.yw * exp(previous.xz - maximum);
  ${forSum.declare}
  ${walkTogether(
    [forSum],
    'steps',
    `vec4 weights = exp(${forSum.fetch} - maximum.xxyy);
    sum += weights.xz + weights.yw;`,
  )}
  setOutput(vec4(maximum.x, sum.x, maximum.y, sum.y));
}`,
  };
}

/** Forward: (lse, normalizer) of both rows, from the statistics of all chunks. */
export function softmaxStatsProgram(variant: AttentionVariant): AttentionProgram {
  const [fromScore, toScore] = variant.softcap ? [' + softcap', ' - softcap'] : ['', ''];
  return {
    inputs: ['stats'],
    code: `
${textureAccess}
void main() {
  vec4 stats4 = ${texel('stats', 'outputTexel()')};
  vec2 maximum = stats4.xz;
  vec2 sum = stats4.yw;
  vec2 lse = maximum + log(sum)${fromScore};
  vec2 normalizer = sum * exp(maximum - (lse${toScore}));
  // The largest term of a sum is exp(0), so only a row that saw nothing has less; NaN is not less than anything.
  bvec2 unseen = lessThan(sum, vec2(0.5));
  lse = mix(lse, vec2(${LOWEST_FLOAT32}), unseen);
  normalizer = mix(normalizer, vec2(1.0), unseen);
  setOutput(vec4(lse.x, normalizer.x, lse.y, normalizer.y));
}`,
  };
}

/** Backward: (delta, 0) of both rows, delta = Σ dOutput·output − dLse. */
export function deltaProgram(variant: AttentionVariant, hasDLse: boolean): AttentionProgram {
  const output = quadWalk(variant, 'o', 'along', 'query', '0');
  const dOutput = quadWalk(variant, 'dO', 'along', 'query', '0');
  return {
    inputs: ['o', 'dO', ...(hasDLse ? (['dSoftmaxStats'] as const) : [])],
    code: `
${headFunctions({...variant, slopes: false, queryLengths: false, keyLengths: false})}
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
