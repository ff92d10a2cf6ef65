/** Programs that make planes of a chunk (tiles_glsl.ts): scores, probabilities, and the gradient of the scores. */
import {
  type AttentionVariant,
  columnsInput,
  declareRowTexels,
  dotProducts,
  dropoutFunctions,
  headFunctions,
  headInputs,
  scoreFunctions,
  scoreInputs,
  tanhFunction,
} from './attention_glsl.js';
import {forEachQuad, type PlanesProgram, planeNames, setTargets} from './register_tiles_glsl.js';
import {texel} from './textures_glsl.js';
import {enterScoreTile, QUARTER_SETS, quadInputs} from './tiles_glsl.js';

/** GLSL of the first query and of the first key of quad (i, j). */
const placeOf = (i: number, j: number) => `query + ${2 * i}, key + ${2 * j}`;

/** GLSL statements that declare the quads' `scores${ij}`; those of hidden keys are hiddenScore. */
const declareScores = (variant: AttentionVariant) => `
  ${dotProducts(variant, 'dots', {operand: 'q', row: 'query'}, {operand: 'k', row: 'key'})}
  ${forEachQuad(
    variant.tile,
    (ij, i, j) => `vec4 scores${ij} = scoresOf(head, dots${ij}, ${placeOf(i, j)});
  ${variant.layout ? `if (liveQuarters != ${QUARTER_SETS - 1}) { scores${ij} = liveScores(scores${ij}, liveQuarters, ${placeOf(i, j)}); }` : ''}`,
  )}`;

/** Scores of the forward pass. */
export function scoresProgram(variant: AttentionVariant): PlanesProgram {
  return {
    inputs: ['q', columnsInput(variant, 'k'), ...quadInputs(variant), ...headInputs(variant), ...scoreInputs(variant)],
    tile: variant.tile,
    code: `
${headFunctions(variant)}
${scoreFunctions(variant)}
void main() {
  ${enterScoreTile(variant, 'vec4(hiddenScore)')}
  ${declareScores(variant)}
  ${setTargets(variant.tile, (ij) => `scores${ij}`)}
}`,
  };
}

/** exp(scores − maximum) of the forward pass, times what dropout makes of it, from scores and (maximum, sum) rows. */
export function weightsProgram(variant: AttentionVariant): PlanesProgram {
  const {tile, dropout} = variant;
  return {
    inputs: [...planeNames('scores', tile), 'stats', ...quadInputs(variant), ...headInputs(variant)],
    tile,
    code: `
${headFunctions(variant)}
${dropoutFunctions(variant)}
void main() {
  ${enterScoreTile(variant, 'vec4(0.0)')}
  ${declareRowTexels(variant, 'stats', 'stats')}
  ${forEachQuad(
    tile,
    (ij, i, j) => `vec4 weights${ij} = exp(${texel(`scores${ij}`, 'index')} - stats${i}.xxzz);
  ${dropout ? `weights${ij} = mix(vec4(0.0), weights${ij} * dropoutFactor, keptOf(head, ${placeOf(i, j)}));` : ''}`,
  )}
  ${setTargets(tile, (ij) => `weights${ij}`)}
}`,
  };
}

/**
 * Probabilities of the backward pass, P = exp(S − reference) / sum, recomputed from softmaxStats. Those that dropout drops are stored as −P:
 * the gradient of the scores needs them, that of the values must not have them.
 */
export function probabilitiesProgram(variant: AttentionVariant): PlanesProgram {
  const {tile, dropout} = variant;
  return {
    inputs: [
      'q',
      columnsInput(variant, 'k'),
      'softmaxStats',
      ...quadInputs(variant),
      ...headInputs(variant),
      ...scoreInputs(variant),
    ],
    tile,
    code: `
${headFunctions(variant)}
${scoreFunctions(variant)}
${dropoutFunctions(variant)}
vec4 probabilitiesOf(vec4 scores, vec4 stats) {
  return mix(exp(scores - stats.xxzz) / stats.yyww, vec4(0.0), equal(scores, vec4(hiddenScore)));
}

void main() {
  ${enterScoreTile(variant, 'vec4(0.0)')}
  ${declareScores(variant)}
  ${declareRowTexels(variant, 'stats', 'softmaxStats')}
  ${forEachQuad(
    tile,
    (ij, i, j) => `vec4 probabilities${ij} = probabilitiesOf(scores${ij}, stats${i});
  ${dropout ? `probabilities${ij} = mix(-probabilities${ij}, probabilities${ij}, keptOf(head, ${placeOf(i, j)}));` : ''}`,
  )}
  ${setTargets(tile, (ij) => `probabilities${ij}`)}
}`,
  };
}

/**
 * What the gradient is of: the dot products q·k but for the scale; or the scores, to which biases are added after the
 * softcap.
 */
export type GradientOf = 'dots' | 'scores';

/** dS = P ∘ (dO·Vᵀ − delta), from probabilities and delta. */
export function scoreGradientProgram(variant: AttentionVariant, gradientOf: GradientOf): PlanesProgram {
  const {tile, dropout} = variant;
  const needsDots = variant.softcap && gradientOf === 'dots';
  // Devices promise no more than sixteen textures.
  const withoutSlopes = {...variant, slopes: false};
  const throughSoftcap = `
  ${dotProducts(variant, 'dots', {operand: 'q', row: 'query'}, {operand: 'k', row: 'key'})}
  ${forEachQuad(tile, (ij) => `vec4 t${ij} = tanhQuad(dots${ij} * (scale / softcap)); gradient${ij} *= 1.0 - t${ij} * t${ij};`)}`;
  return {
    inputs: [
      'dO',
      columnsInput(variant, 'v'),
      ...planeNames('probabilities', tile),
      'delta',
      ...(needsDots ? ['q', columnsInput(variant, 'k')] : []),
      ...quadInputs(variant),
      ...headInputs(withoutSlopes),
    ],
    tile,
    code: `
${headFunctions(withoutSlopes)}
${needsDots ? tanhFunction : ''}
void main() {
  ${enterScoreTile(variant, 'vec4(0.0)')}
  ${dotProducts(variant, 'gradient', {operand: 'dO', row: 'query'}, {operand: 'v', row: 'key'})}
  ${declareRowTexels(variant, 'delta', 'delta')}
  ${forEachQuad(
    tile,
    (ij, i) => `vec4 p${ij} = ${texel(`probabilities${ij}`, 'index')};
  ${dropout ? `gradient${ij} = mix(vec4(0.0), gradient${ij} * dropoutFactor, greaterThan(p${ij}, vec4(0.0)));` : ''}
  gradient${ij} = abs(p${ij}) * (gradient${ij} - delta${i}.xxzz);`,
  )}
  ${needsDots ? throughSoftcap : ''}
  // Padding beyond the matrices may hold anything.
  ${setTargets(tile, (ij) => `mix(gradient${ij}, vec4(0.0), equal(p${ij}, vec4(0.0)))`)}
}`,
  };
}
