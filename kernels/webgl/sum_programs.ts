/**
 * Programs that sum rows of a matrix, weighted by a chunk texture: along its rows (output, dQ) or down its columns (dK,
 * dV). Their results are in BHSD order and are carried from chunk to chunk.
 */
import {type AttentionVariant, depthOf, headFunctions, headInputs, quadWalk} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {texel, texelWalk, walkTogether} from './textures_glsl.js';
import {columnInputs, overTilesOfColumns, overTilesOfRows, rowInputs} from './tiles_glsl.js';

const previousInput = (hasPrevious: boolean) => (hasPrevious ? (['previous'] as const) : []);

/**
 * sum[i, ·] = Σ_j weights[i, j]·matrix[j, ·] over the keys j of the chunk. In the forward pass (`matrix` v) what the
 * chunks before gave is rescaled to the new maximum, and the last chunk divides by the sum (FlashAttention-2, algorithm
 * 1); for dQ (`matrix` k) it is added as it is.
 */
export function sumOverKeysProgram(variant: AttentionVariant, matrix: 'k' | 'v', hasPrevious: boolean): PackedProgram {
  const weights = texelWalk('weights', 'weights', 'firstTexel + seen.x / 2', '1');
  const rows = quadWalk(variant, matrix, 'down', 'firstKey + 2 * (seen.x / 2)', 'column');
  const fetchBoth = `vec4 w = ${weights.fetch}; vec4 x = ${rows.fetch};`;
  const statsTexel = (input: string) => texel(input, 'headIndex * pairs(queries) + query / 2');
  const softmax = `
  vec4 stats4 = ${statsTexel('stats')};
  ${hasPrevious ? `sum += ${texel('previous', 'index')} * exp(${statsTexel('previousStats')} - stats4).xxzz;` : ''}
  if (isLastChunk == 1) {
    vec4 sums = stats4.yyww;
    // Only a row that saw nothing has a sum below exp(0).
    sum = mix(sum / sums, vec4(0.0), lessThan(sums, vec4(0.5)));
  }`;
  const gradient = `
  sum *= scale;
  ${hasPrevious ? `sum += ${texel('previous', 'index')};` : ''}`;
  const statsInputs = hasPrevious ? (['stats', 'previousStats'] as const) : (['stats'] as const);
  return {
    inputs: [
      'weights',
      matrix,
      ...previousInput(hasPrevious),
      ...(matrix === 'v' ? statsInputs : []),
      ...rowInputs(variant),
      ...headInputs(variant),
    ],
    code: `
${headFunctions(variant)}
void main() {
  int index = outputTexel();
  int column = index % pairs(${depthOf(matrix)});
  int rowPair = index / pairs(${depthOf(matrix)});
  int query = 2 * (rowPair % pairs(queries));
  int headIndex = rowPair / pairs(queries);
  if (headIndex >= batch * heads) { setOutput(vec4(0.0)); return; }
  Head head = makeHead(headIndex);
  vec4 sum = vec4(0.0);
  ${overTilesOfRows(
    variant,
    `${weights.declare}
    ${rows.declare}
    ${walkTogether([weights, rows], '(seen.y / 2 - seen.x / 2)', `${fetchBoth} sum += w.xxzz * x.xyxy + w.yyww * x.zwzw;`)}
    if (seen.y % 2 == 1 && seen.y > seen.x) {
      // The second row of the last pair is hidden, and may be padding.
      ${fetchBoth}
      sum += w.xxzz * x.xyxy;
    }`,
  )}
  ${matrix === 'v' ? softmax : gradient}
  setOutput(sum);
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
): PackedProgram {
  const weights = texelWalk('weights', 'weights', 'firstTexel + seen.x / 2 * pairs(tileKeys)', 'pairs(tileKeys)');
  const rows = quadWalk(variant, matrix, 'down', 'firstQuery + 2 * (seen.x / 2)', 'column');
  const dropped = matrix === 'dO' && variant.dropout;
  const weight = dropped ? `max(${weights.fetch}, 0.0)` : weights.fetch;
  const fetchBoth = `vec4 w = ${weight}; vec4 x = ${rows.fetch};`;
  const factor = matrix === 'q' ? 'scale' : dropped ? 'dropoutFactor' : '1.0';
  return {
    inputs: ['weights', matrix, ...previousInput(hasPrevious), ...columnInputs(variant), ...headInputs(variant)],
    code: `
${headFunctions(variant)}
void main() {
  int index = outputTexel();
  int column = index % pairs(${depthOf(matrix)});
  int rowPair = index / pairs(${depthOf(matrix)});
  int key = 2 * (rowPair % pairs(keys));
  int keyHeadIndex = rowPair / pairs(keys);
  if (keyHeadIndex >= batch * keyHeads) { setOutput(vec4(0.0)); return; }
  if (key < chunkStart || key >= chunkStart + chunkKeys) {
    setOutput(${hasPrevious ? texel('previous', 'index') : 'vec4(0.0)'});
    return;
  }
  int group = heads / keyHeads;
  vec4 sum = vec4(0.0);
  for (int member = 0; member < group; member++) {
    Head head = makeHead(keyHeadIndex / keyHeads * heads + keyHeadIndex % keyHeads * group + member);
    ${overTilesOfColumns(
      variant,
      `${weights.declare}
      ${rows.declare}
      ${walkTogether([weights, rows], '(seen.y / 2 - seen.x / 2)', `${fetchBoth} sum += w.xxyy * x.xyxy + w.zzww * x.zwzw;`)}
      if (seen.y % 2 == 1 && seen.y > seen.x) {
        // The second row of the last pair sees nothing, and may be padding.
        ${fetchBoth}
        sum += w.xxyy * x.xyxy;
      }`,
    )}
  }
  setOutput(sum * ${factor});
}`,
  };
}
