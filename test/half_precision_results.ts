/** The rule by which attention is judged whose products are of float16 numbers. */
import type {AttentionCase} from './attention_cases.js';
import {
  type Differentiable,
  differentiableInputs,
  type HostInputs,
  type HostTensor,
  layoutOf,
  makeInputs,
} from './attention_inputs.js';
import {computeReference, expectWithin, flashResult, worstError} from './attention_results.js';

type Numbers = ArrayLike<number>;

/** Newer than TypeScript's libraries. */
const toHalf = (Math as unknown as {f16round: (value: number) => number}).f16round;

/** Half of the distance between neighbouring float16 numbers, relative. */
const ROUNDING = 2 ** -11;

function roundedToHalf(inputs: HostInputs): HostInputs {
  const rounded = ({values, shape}: HostInputs['q']) => ({values: values.map(toHalf), shape});
  const {q, k, v, outputWeights} = inputs;
  return {...inputs, q: rounded(q), k: rounded(k), v: rounded(v), outputWeights: rounded(outputWeights)};
}

const largest = (values: Numbers) => Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Query rows that are summed into one number of the gradient: of a bias [B, H, Sq, Sk] or slopes [B, H], or broadcast. */
function rowsSummed({B, H, Sq}: AttentionCase, name: Differentiable, {shape}: HostTensor): number {
  if (name !== 'bias' && name !== 'alibiSlopes') return 1;
  const ofRows = name === 'bias' ? shape.slice(0, -1) : shape;
  return (B * H * Sq) / ofRows.reduce((product, size) => product * size, 1);
}

/**
 * The rule: at most three times the error that float64 makes of inputs rounded to float16, plus four roundings of the
 * largest result, for the probabilities and their gradients, which are rounded as well; and finite throughout. Where rows
 * are summed, each of which is off by its own roundings, by the root of their number more.
 */
export async function expectRightInHalfPrecision(ofCase: AttentionCase): Promise<void> {
  const attentionCase = {...ofCase, precision: 'fast'} as const;
  const inputs = makeInputs(attentionCase);
  const right = computeReference(attentionCase, inputs);
  const ofRounded = computeReference(attentionCase, roundedToHalf(inputs));
  const actual = await flashResult(attentionCase, inputs);
  const allowed = (rounded: Numbers, exact: Numbers, rows = 1) =>
    3 * worstError(rounded, exact) + 4 * ROUNDING * Math.sqrt(rows) * largest(exact);
  expectWithin('output', actual.output, right.output, allowed(ofRounded.output, right.output));
  for (const name of differentiableInputs(inputs)) {
    const [exact, rounded] = [right, ofRounded].map(({gradients}) => gradients[name] as Numbers);
    const rows = rowsSummed(attentionCase, name, inputs[name] as HostTensor);
    expectWithin(`gradient of ${name}`, actual.gradients[name] as Numbers, exact, allowed(rounded, exact, rows));
  }
  layoutOf(attentionCase)?.dispose();
}
