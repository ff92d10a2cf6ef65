/**
 * Programs of a language model's loss. Statistics of rows, [rows, 2], and their losses, [rows, 1], have a texel for two
 * rows; logits [rows, columns] have one for two columns of these.
 */
import type {PackedProgram} from './packed_program.js';
import {texel, texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** Texels of a pair of rows that a fragment goes through. */
export const CHUNK_TEXELS = 256;

/** Uniforms of every program. */
export const lossUniforms = [
  {name: 'rows', type: 'int'},
  {name: 'columns', type: 'int'},
  // Of a row, how many the statistics are made of.
  {name: 'chunks', type: 'int'},
  {name: 'factor', type: 'float'},
] as const;

/** (maximum, sum of exp(logit − maximum)) of both rows, over a chunk of columns: [rows, 2·chunks]. */
export function chunkStatsProgram(): PackedProgram {
  const start = 'pair * pairs(columns) + first';
  const [forMaximum, forSum] = ['forMaximum', 'forSum'].map((name) => texelWalk('logits', name, start, '1'));
  return {
    inputs: ['logits'],
    code: `
${textureAccess}
void main() {
  int number = outputTexel();
  int pair = number / chunks;
  int first = number % chunks * ${CHUNK_TEXELS};
  // Where there is an odd column, what lies beside it is left out.
  int wholeTexels = min(columns / 2 - first, ${CHUNK_TEXELS});
  bool hasOdd = columns % 2 == 1 && wholeTexels < ${CHUNK_TEXELS};
  ${forMaximum.declare}
  vec2 maximum = ${forMaximum.fetch}.xz;
  ${walkTogether(
    [forMaximum],
    'wholeTexels',
    `vec4 logits4 = ${forMaximum.fetch};
      maximum = max(maximum, max(logits4.xz, logits4.yw));`,
  )}
  if (hasOdd) { maximum = max(maximum, ${forMaximum.fetch}.xz); }
  vec2 sum = vec2(0.0);
  ${forSum.declare}
  ${walkTogether(
    [forSum],
    'wholeTexels',
    `vec4 weights = exp(${forSum.fetch} - maximum.xxyy);
      sum += weights.xz + weights.yw;`,
  )}
  if (hasOdd) { sum += exp(${forSum.fetch}.xz - maximum); }
  setOutput(vec4(maximum.x, sum.x, maximum.y, sum.y));
}`,
  };
}

/** The same of whole rows, from those of the chunks. */
export function mergeStatsProgram(): PackedProgram {
  const [forMaximum, forSum] = ['forMaximum', 'forSum'].map((name) => texelWalk('stats', name, 'pair * chunks', '1'));
  return {
    inputs: ['stats'],
    code: `
${textureAccess}
void main() {
  int pair = outputTexel();
  ${forMaximum.declare}
  vec2 maximum = ${forMaximum.fetch}.xz;
  ${walkTogether([forMaximum], 'chunks', `maximum = max(maximum, ${forMaximum.fetch}.xz);`)}
  vec2 sum = vec2(0.0);
  ${forSum.declare}
  ${walkTogether(
    [forSum],
    'chunks',
    `vec4 stats4 = ${forSum.fetch};
      sum += stats4.yw * exp(stats4.xz - maximum);`,
  )}
  setOutput(vec4(maximum.x, sum.x, maximum.y, sum.y));
}`,
  };
}

/** The losses of rows, times `factor`. */
export function rowLossProgram(): PackedProgram {
  return {
    inputs: ['logits', 'targets', 'softmaxStats'],
    code: `
${textureAccess}
// Of one row of a pair: how far the token's logit is behind the largest.
float behind(int pair, int row, int token, float maximum) {
  if (token < 0 || token >= columns) { return 0.0; }
  vec4 logits4 = ${texel('logits', 'pair * pairs(columns) + token / 2')};
  return maximum - halfOf(logits4, row)[token % 2];
}

void main() {
  int pair = outputTexel();
  ivec2 tokens = ivec2(${texel('targets', 'pair')}.xy);
  vec4 stats4 = ${texel('softmaxStats', 'pair')};
  float even = log(stats4.y) + behind(pair, 0, tokens.x, stats4.x);
  float odd = 2 * pair + 1 < rows ? log(stats4.w) + behind(pair, 1, tokens.y, stats4.z) : 0.0;
  setOutput(factor * vec4(even, 0.0, odd, 0.0));
}`,
  };
}

/** (softmax − one-hot)·factor·dLoss. */
export function lossGradientProgram(): PackedProgram {
  return {
    inputs: ['logits', 'targets', 'softmaxStats', 'dLoss'],
    code: `
${textureAccess}
void main() {
  int number = outputTexel();
  int columnPair = number % pairs(columns);
  int pair = number / pairs(columns);
  vec4 stats4 = ${texel('softmaxStats', 'pair')};
  vec4 probabilities = exp(${texel('logits', 'number')} - stats4.xxzz) / stats4.yyww;
  ivec4 tokens = ivec4(${texel('targets', 'pair')}.xxyy);
  vec4 hot = vec4(equal(2 * columnPair + ivec4(0, 1, 0, 1), tokens));
  vec4 gradient = factor * ${texel('dLoss', '0')}.x * (probabilities - hot);
  setOutput(mix(gradient, vec4(0.0), outside(pair, columnPair, rows, columns)));
}`,
  };
}
