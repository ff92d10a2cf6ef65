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

/** Forward: lse [B, H, Sq] from the statistics of all chunks. The one output that is not packed. */
export const lseProgram: AttentionProgram = {
  inputs: ['stats'],
  unpackedOutput: true,
  code: `
${textureAccess}
void main() {
  int row = int(gl_FragCoord.y) * outTexShape[1] + int(gl_FragCoord.x);
  int query = row % queries;
  vec2 maximumAndSum = halfOf(${texel('stats', 'row / queries * pairs(queries) + query / 2')}, query);
  // The largest term of a sum is exp(0), so only a row that saw nothing has less; NaN is not less than anything.
  setOutput(maximumAndSum.y < 0.5 ? ${LOWEST_FLOAT32} : maximumAndSum.x + log(maximumAndSum.y));
}`,
};

/** Backward: (lse, delta) of both rows, delta = Σ dOutput·output − dLse. */
export function gradientStatsProgram(variant: AttentionVariant, hasDLse: boolean): AttentionProgram {
  const output = quadWalk(variant, 'o', 'along', 'query', '0');
  const dOutput = quadWalk(variant, 'dO', 'along', 'query', '0');
  const perRow = (input: string) =>
    `halfOf(${texel(input, '(head.sampleIndex * pairs(heads) + head.head / 2) * pairs(queries) + query / 2')}, head.head)`;
  return {
    inputs: ['o', 'dO', 'lse', ...(hasDLse ? (['dLse'] as const) : [])],
    code: `
${headFunctions({...variant, slopes: false, queryLengths: false, keyLengths: false})}
void main() {
  ${enterRowPair}
  vec2 delta = ${hasDLse ? `-${perRow('dLse')}` : 'vec2(0.0)'};
  ${output.declare}
  ${dOutput.declare}
  ${walkTogether(
    [output, dOutput],
    'valueDepth / 2',
    `vec4 products = ${output.fetch} * ${dOutput.fetch};
    delta += products.xz + products.yw;`,
  )}
  if (valueDepth % 2 == 1) {
    vec4 products = ${output.fetch} * ${dOutput.fetch};
    delta += products.xz;
  }
  vec2 lse2 = ${perRow('lse')};
  setOutput(vec4(lse2.x, delta.x, lse2.y, delta.y));
}`,
  };
}
