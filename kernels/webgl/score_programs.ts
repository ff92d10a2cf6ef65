/** Programs that make planes of a chunk (tiles_glsl.ts): scores, probabilities, and the gradient of the scores. */
import {
  type AttentionVariant,
  declareRowTexels,
  dotProducts,
  dropoutFunctions,
  headFunctions,
  headInputs,
  scoreFunctions,
  scoreInputs,
  tanhFunction,
} from './attention_glsl.js';
import {forEachQuad, planeNames, setTargets, targetNames} from './register_tiles_glsl.js';
import type {RenderTargetsProgram} from './render_targets.js';
import {texel} from './textures_glsl.js';
import {enterScoreTile, QUARTER_SETS, quadInputs} from './tiles_glsl.js';

/** GLSL of the first query and of the first key of quad (i, j). */
const placeOf = (i: number, j: number) => `query + ${2 * i}, key + ${2 * j}`;

/** GLSL statements that declare the quads' `scores${ij}`; those of hidden keys are hiddenScore. */
const declareScores = (variant: AttentionVariant) => `
  ${dotProducts(variant, 'dots', {operand: 'q', row: 'query'}, {operand: 'k', row: 'key'})}
  ${forEachQuad(
    variant.side,
    (ij, i, j) => `vec4 scores${ij} = scoresOf(head, dots${ij}, ${placeOf(i, j)});
  ${variant.layout ? `if (liveQuarters != ${QUARTER_SETS - 1}) { scores${ij} = liveScores(scores${ij}, liveQuarters, ${placeOf(i, j)}); }` : ''}`,
  )}`;

/** Scores of the forward pass. */
export function scoresProgram(variant: AttentionVariant): RenderTargetsProgram {
  return {
    inputs: ['q', 'k', ...quadInputs(variant), ...headInputs(variant), ...scoreInputs(variant)],
    targets: targetNames(variant.side),
    code: `
${headFunctions(variant)}
${scoreFunctions(variant)}
void main() {
  ${enterScoreTile(variant, 'vec4(hiddenScore)')}
  ${declareScores(variant)}
  ${setTargets(variant.side, (ij) => `scores${ij}`)}
}`,
  };
}

/** exp(scores − maximum) of the forward pass, times what dropout makes of it, from scores and (maximum, sum) rows. */
export function weightsProgram(variant: AttentionVariant): RenderTargetsProgram {
  const {side, dropout} = variant;
  return {
    inputs: [...planeNames('scores', side), 'stats', ...quadInputs(variant), ...headInputs(variant)],
    targets: targetNames(side),
    code: `
${headFunctions(variant)}
${dropoutFunctions(variant)}
void main() {
  ${enterScoreTile(variant, 'vec4(0.0)')}
  ${declareRowTexels(variant, 'stats', 'stats')}
  ${forEachQuad(
    side,
    (ij, i, j) => `vec4 weights${ij} = exp(${texel(`scores${ij}`, 'index')} - stats${i}.xxzz);
  ${dropout ? `weights${ij} = mix(vec4(0.0), weights${ij} * dropoutFactor, keptOf(head, ${placeOf(i, j)}));` : ''}`,
  )}
  ${setTargets(side, (ij) => `weights${ij}`)}
}`,
  };
}

/**
 * Probabilities of the backward pass, P = exp(S − reference) / sum, recomputed from softmaxStats. Those that dropout drops are stored as −P:
 * the gradient of the scores needs them, that of the values must not have them.
 */
export function probabilitiesProgram(variant: AttentionVariant): RenderTargetsProgram {
  const {side, dropout} = variant;
  return {
    inputs: ['q', 'k', 'softmaxStats', ...quadInputs(variant), ...headInputs(variant), ...scoreInputs(variant)],
    targets: targetNames(side),
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
    side,
    (ij, i, j) => `vec4 probabilities${ij} = probabilitiesOf(scores${ij}, stats${i});
  ${dropout ? `probabilities${ij} = mix(-probabilities${ij}, probabilities${ij}, keptOf(head, ${placeOf(i, j)}));` : ''}`,
  )}
  ${setTargets(side, (ij) => `probabilities${ij}`)}
}`,
  };
}

/**
 * What the gradient is of: the dot products q·k but for the scale; or the scores, to which biases are added after the
 * softcap.
 */
export type GradientOf = 'dots' | 'scores';

/** dS = P ∘ (dO·Vᵀ − delta), from probabilities and delta. */
export function scoreGradientProgram(variant: AttentionVariant, gradientOf: GradientOf): RenderTargetsProgram {
  const {side, dropout} = variant;
  const needsDots = variant.softcap && gradientOf === 'dots';
  const throughSoftcap = `
  ${dotProducts(variant, 'dots', {operand: 'q', row: 'query'}, {operand: 'k', row: 'key'})}
  ${forEachQuad(side, (ij) => `vec4 t${ij} = tanhQuad(dots${ij} * (scale / softcap)); gradient${ij} *= 1.0 - t${ij} * t${ij};`)}`;
  return {
    inputs: [
      'dO',
      'v',
      ...planeNames('probabilities', side),
      'delta',
      ...(needsDots ? (['q', 'k'] as const) : []),
      ...quadInputs(variant),
      ...headInputs(variant),
    ],
    targets: targetNames(side),
    code: `
${headFunctions(variant)}
${needsDots ? tanhFunction : ''}
void main() {
  ${enterScoreTile(variant, 'vec4(0.0)')}
  ${dotProducts(variant, 'gradient', {operand: 'dO', row: 'query'}, {operand: 'v', row: 'key'})}
  ${declareRowTexels(variant, 'delta', 'delta')}
  ${forEachQuad(
    side,
    (ij, i) => `vec4 p${ij} = ${texel(`probabilities${ij}`, 'index')};
  ${dropout ? `gradient${ij} = mix(vec4(0.0), gradient${ij} * dropoutFactor, greaterThan(p${ij}, vec4(0.0)));` : ''}
  gradient${ij} = abs(p${ij}) * (gradient${ij} - delta${i}.xxzz);`,
  )}
  ${needsDots ? throughSoftcap : ''}
  // Padding beyond the matrices may hold anything.
  ${setTargets(side, (ij) => `mix(gradient${ij}, vec4(0.0), equal(p${ij}, vec4(0.0)))`)}
}`,
  };
}
