/** Programs that make chunk textures (tiles_glsl.ts): scores, probabilities, and the gradient of the scores. */
import {
  type AttentionVariant,
  dotProducts,
  dropoutFunctions,
  headFunctions,
  headInputs,
  scoreFunctions,
  scoreInputs,
  tanhFunction,
} from './attention_glsl.js';
import type {PackedProgram} from './packed_program.js';
import {texel} from './textures_glsl.js';
import {enterScoreQuad, QUARTER_SETS, quadInputs} from './tiles_glsl.js';

/** GLSL of the texel of a texture of two numbers per row that belongs to the two rows of the quad. */
const ofQuadRows = (input: string) => texel(input, 'headIndex * pairs(queries) + query / 2');

/** GLSL statements that declare the quad's `scores`; those of hidden keys are hiddenScore. */
const declareScores = (variant: AttentionVariant) => `
  ${dotProducts(variant, 'dots', {operand: 'q', row: 'query'}, {operand: 'k', row: 'key'})}
  vec4 scores = scoresOf(head, dots, query, key);
  ${variant.layout ? `if (liveQuarters != ${QUARTER_SETS - 1}) { scores = liveScores(scores, liveQuarters, query, key); }` : ''}`;

/** Scores of the forward pass. */
export function scoresProgram(variant: AttentionVariant): PackedProgram {
  return {
    inputs: ['q', 'k', ...quadInputs(variant), ...headInputs(variant), ...scoreInputs(variant)],
    code: `
${headFunctions(variant)}
${scoreFunctions(variant)}
void main() {
  ${enterScoreQuad(variant, 'vec4(hiddenScore)')}
  ${declareScores(variant)}
  setOutput(scores);
}`,
  };
}

/** exp(scores − maximum) of the forward pass, times what dropout makes of it, from scores and (maximum, sum) rows. */
export function weightsProgram(variant: AttentionVariant): PackedProgram {
  return {
    inputs: ['scores', 'stats', ...quadInputs(variant), ...headInputs(variant)],
    code: `
${headFunctions(variant)}
${dropoutFunctions(variant)}
void main() {
  ${enterScoreQuad(variant, 'vec4(0.0)')}
  vec4 stats4 = ${ofQuadRows('stats')};
  vec4 weights = exp(${texel('scores', 'index')} - stats4.xxzz);
  ${variant.dropout ? 'weights = mix(vec4(0.0), weights * dropoutFactor, keptOf(head, query, key));' : ''}
  setOutput(weights);
}`,
  };
}

/**
 * Probabilities of the backward pass, P = exp(S − reference) / sum, recomputed from softmaxStats. Those that dropout drops are stored as −P:
 * the gradient of the scores needs them, that of the values must not have them.
 */
export function probabilitiesProgram(variant: AttentionVariant): PackedProgram {
  return {
    inputs: ['q', 'k', 'softmaxStats', ...quadInputs(variant), ...headInputs(variant), ...scoreInputs(variant)],
    code: `
${headFunctions(variant)}
${scoreFunctions(variant)}
${dropoutFunctions(variant)}
void main() {
  ${enterScoreQuad(variant, 'vec4(0.0)')}
  ${declareScores(variant)}
  vec4 stats4 = ${ofQuadRows('softmaxStats')};
  vec4 probabilities = mix(exp(scores - stats4.xxzz) / stats4.yyww, vec4(0.0), equal(scores, vec4(hiddenScore)));
  ${variant.dropout ? 'probabilities = mix(-probabilities, probabilities, keptOf(head, query, key));' : ''}
  setOutput(probabilities);
}`,
  };
}

/**
 * What the gradient is of: the dot products q·k but for the scale; or the scores, to which biases are added after the
 * softcap.
 */
export type GradientOf = 'dots' | 'scores';

/** dS = P ∘ (dO·Vᵀ − delta), from the textures of probabilities and of delta. */
export function scoreGradientProgram(variant: AttentionVariant, gradientOf: GradientOf): PackedProgram {
  const needsDots = variant.softcap && gradientOf === 'dots';
  const throughSoftcap = `
  ${dotProducts(variant, 'dots', {operand: 'q', row: 'query'}, {operand: 'k', row: 'key'})}
  vec4 t = tanhQuad(dots * (scale / softcap));
  gradient *= 1.0 - t * t;`;
  return {
    inputs: [
      'dO',
      'v',
      'probabilities',
      'delta',
      ...(needsDots ? (['q', 'k'] as const) : []),
      ...quadInputs(variant),
      ...headInputs(variant),
    ],
    code: `
${headFunctions(variant)}
${needsDots ? tanhFunction : ''}
void main() {
  ${enterScoreQuad(variant, 'vec4(0.0)')}
  vec4 probabilities4 = ${texel('probabilities', 'index')};
  ${dotProducts(variant, 'gradient', {operand: 'dO', row: 'query'}, {operand: 'v', row: 'key'})}
  ${variant.dropout ? 'gradient = mix(vec4(0.0), gradient * dropoutFactor, greaterThan(probabilities4, vec4(0.0)));' : ''}
  gradient = abs(probabilities4) * (gradient - ${ofQuadRows('delta')}.xxzz);
  ${needsDots ? throughSoftcap : ''}
  // Padding beyond the matrices may hold anything.
  setOutput(mix(gradient, vec4(0.0), equal(probabilities4, vec4(0.0))));
}`,
  };
}
