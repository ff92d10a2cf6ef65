/**
 * Programs that make results, in BHSD order, of what the chunks' sums (sum_programs.ts) are: each puts the planes of a
 * chunk together, and adds what the chunks before gave.
 */
import type {AttentionVariant} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {assembleProgram, transposed} from './register_tiles_glsl.js';
import {texel} from './textures_glsl.js';

const previousInput = (hasPrevious: boolean) => (hasPrevious ? (['previous'] as const) : []);
const previousTexel = texel('previous', 'index');

/**
 * The output: what the chunks before gave is rescaled to the new maximum, and the last chunk divides by the sum
 * (FlashAttention-2, algorithm 1).
 */
export function outputProgram({tile}: AttentionVariant, hasPrevious: boolean): PackedProgram {
  const addPrevious = `
  vec2 factors = exp(${texel('previousStats', 'rowPair')} - stats4).xz;
  result += ${previousTexel} * factors.xxyy;`;
  return assembleProgram({
    tile,
    rows: 'queries',
    columns: 'valueDepth',
    inputs: ['stats', ...(hasPrevious ? ['previousStats'] : []), ...previousInput(hasPrevious)],
    finish: `
  vec4 stats4 = ${texel('stats', 'rowPair')};
  ${hasPrevious ? addPrevious : ''}
  // Only a row that saw nothing has a sum below exp(0).
  if (isLastChunk == 1) { result = mix(result / stats4.yyww, vec4(0.0), lessThan(stats4.yyww, vec4(0.5))); }`,
  });
}

/** dQ. */
export function queryGradientProgram({tile}: AttentionVariant, hasPrevious: boolean): PackedProgram {
  return assembleProgram({
    tile,
    rows: 'queries',
    columns: 'depth',
    inputs: previousInput(hasPrevious),
    finish: `result = result * scale${hasPrevious ? ` + ${previousTexel}` : ''};`,
  });
}

/** dK, the sums of dS times scale, or dV, of probabilities; keys of other chunks keep what they had. */
export function keyGradientProgram(
  {tile, dropout}: AttentionVariant,
  columns: 'depth' | 'valueDepth',
  hasPrevious: boolean,
): PackedProgram {
  const factor = columns === 'depth' ? 'scale' : dropout ? 'dropoutFactor' : '1.0';
  return assembleProgram({
    tile: transposed(tile),
    rows: 'keys',
    columns,
    part: {firstRow: 'chunkStart', rows: 'chunkKeys', otherwise: hasPrevious ? previousTexel : 'vec4(0.0)'},
    inputs: previousInput(hasPrevious),
    finish: `result *= ${factor};`,
  });
}
