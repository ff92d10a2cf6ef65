/**
 * gelu in numbers: constants, the approximation of Φ, and the shader functions that use them, which WGSL and GLSL share but
 * for their grammar.
 *
 * The approximate formula, ½·x·(1 + tanh(u)), is x·sigmoid(v) with v = 2u = x·(LINEAR + CUBIC·x²). The exact one needs the
 * normal distribution's Φ, for which shaders have no function: with t = 1 / (1 + 0.3·|x|),
 *
 *     Φ(−|x|) = exp(−x² / 2)·t·(c0 + c1·t + … + c9·t⁹),
 *
 * off by a relative 4.5e-9 at most, so that float32's own rounding is what remains, also where Φ is small: no 1 + erf, which
 * cancels. The form is that of Hastings, "Approximations for Digital Computers" (1955), sheets 61 to 63; the coefficients
 * interpolate at Chebyshev nodes, |x| from 0 to 15.
 */

export const LINEAR = 2 * Math.sqrt(2 / Math.PI);
export const CUBIC = LINEAR * 0.044715;

/** φ(0), the normal distribution's density at 0. */
export const PEAK_DENSITY = 1 / Math.sqrt(2 * Math.PI);

export const TAIL_SLOPE = 0.3;

/** c0 to c9. */
export const TAIL_COEFFICIENTS = [
  0.1196877502, 0.1195501183, 0.1104231966, 0.07748577085, 0.09883084068, -0.0844812813, 0.1979216425, -0.2328354818,
  0.1144021113, -0.02098466926,
];

/** What of the grammar differs between WGSL and GLSL. */
export interface ShaderGrammar {
  /** The type of x: one number, or several side by side. */
  type: string;
  /** A function of x. */
  declareFunction: (name: string, body: string) => string;
  declare: (name: string, value: string) => string;
  /** For each number: one expression where x < 0, the other elsewhere. */
  bySign: (whereNegative: string, elsewhere: string) => string;
}

/** Functions `gelu` and `geluSlope`, its derivative. */
export function geluFunctions(grammar: ShaderGrammar, approximate: boolean): string {
  const {gelu, slope} = approximate ? approximateBodies(grammar) : exactBodies(grammar);
  return grammar.declareFunction('gelu', gelu) + grammar.declareFunction('geluSlope', slope);
}

/** sigmoid(v) from exp(−|v|), which cannot overflow; beyond ±11 it is 0 or 1. */
function approximateBodies({type, declare, bySign}: ShaderGrammar): Record<'gelu' | 'slope', string> {
  const gate = `
  ${declare('c', `clamp(x, ${type}(-11.0), ${type}(11.0))`)}
  ${declare('e', `exp(-abs(c * (${LINEAR} + ${CUBIC} * c * c)))`)}
  ${declare('gate', `${bySign('e', `${type}(1.0)`)} / (1.0 + e)`)}`;
  return {
    gelu: `${gate}
  return x * gate;`,
    // The derivative of the sigmoid, gate·(1 − gate), without a difference.
    slope: `${gate}
  return gate + x * ((${LINEAR} + ${3 * CUBIC} * c * c) * e / ((1.0 + e) * (1.0 + e)));`,
  };
}

/** Beyond ±15 the tail is 0. */
function exactBodies({type, declare, bySign}: ShaderGrammar): Record<'gelu' | 'slope', string> {
  const polynomial = TAIL_COEFFICIENTS.reduceRight((higher, c) => (higher ? `(${higher}) * t + ${c}` : `${c}`), '');
  const cumulative = `
  ${declare('c', `min(abs(x), ${type}(15.0))`)}
  ${declare('t', `1.0 / (1.0 + ${TAIL_SLOPE} * c)`)}
  ${declare('e', 'exp(-0.5 * c * c)')}
  ${declare('tail', `e * t * (${polynomial})`)}
  ${declare('cumulative', bySign('tail', '1.0 - tail'))}`;
  return {
    gelu: `${cumulative}
  return x * cumulative;`,
    slope: `${cumulative}
  return cumulative + x * e * ${PEAK_DENSITY};`,
  };
}
