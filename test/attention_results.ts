/** Attention computed three ways, and the rule by which the op's results are judged. */
import * as tf from '@tensorflow/tfjs-core';
import {attentionBackward, attentionForward} from '../kernels/cpu/attention_rows.js';
import {flashAttentionWithLse} from '../src/index.js';
import {LOWEST_FLOAT32} from '../src/kernel_names.js';
import {type AttentionCase, describeCase} from './attention_cases.js';
import {
  type Differentiable,
  differentiableInputs,
  type HostInputs,
  layoutOf,
  makeInputs,
  opOptions,
  oracleProblem,
  toTensor,
} from './attention_inputs.js';
import {unfusedAttention} from './unfused.js';
import {type AttentionResult, resultOf} from './weighted_gradients.js';

type Numbers = ArrayLike<number>;

/** What is right, in float64. */
export interface Reference {
  output: Numbers;
  lse: Numbers;
  gradients: Partial<Record<Differentiable, Numbers>>;
}

/** What is right, and what the unfused formula in float32 makes of it. */
interface Expectation extends Reference {
  unfused: AttentionResult;
}

/** Gradients of fewer values are judged over several draws of the inputs: one draw's largest error is mostly luck. */
const ENOUGH_VALUES = 32;

const references = new Map<string, Reference>();

/** What float64 gives, computed once per case and seed for all backends, and what `yardstick` does. */
async function expectationOf(
  attentionCase: AttentionCase,
  seed: number,
  inputs: HostInputs,
  yardstick: string,
): Promise<Expectation> {
  const key = `${describeCase(attentionCase)} ${seed}`;
  const reference = references.get(key) ?? computeReference(attentionCase, inputs);
  references.set(key, reference);
  return {...reference, unfused: await onBackend(yardstick, () => unfusedAttention(attentionCase, inputs))};
}

async function onBackend<T>(name: string, body: () => Promise<T>): Promise<T> {
  const previous = tf.getBackend();
  await tf.setBackend(name);
  try {
    return await body();
  } finally {
    await tf.setBackend(previous);
  }
}

export function computeReference(attentionCase: AttentionCase, inputs: HostInputs): Reference {
  const problem = oracleProblem(attentionCase, inputs);
  const {dq, dk, dv, dBias, dSlopes} = attentionBackward(
    problem,
    inputs.outputWeights.values,
    inputs.lseWeights.values,
  );
  return {
    ...attentionForward(problem),
    gradients: {q: dq, k: dk, v: dv, bias: dBias, alibiSlopes: dSlopes},
  };
}

/** The op's results and gradients on the active backend. */
export function flashResult(attentionCase: AttentionCase, inputs: HostInputs): Promise<AttentionResult> {
  return resultOf(inputs, (tensors) => {
    const {q, k, v, ...others} = tensors as Record<string, tf.Tensor4D>;
    return flashAttentionWithLse(q, k, v, {...opOptions(attentionCase, inputs), ...others});
  });
}

/** The op's results on the active backend for one draw of the inputs, and what is right. */
interface Draw {
  inputs: HostInputs;
  actual: AttentionResult;
  expected: Expectation;
}

async function draw(attentionCase: AttentionCase, seed: number, yardstick: string): Promise<Draw> {
  const inputs = makeInputs(attentionCase, seed);
  const actual = await flashResult(attentionCase, inputs);
  return {inputs, actual, expected: await expectationOf(attentionCase, seed, inputs, yardstick)};
}

/**
 * The rule: at most twice the error of the unfused formula in float32, three times for gradients, plus 1e-5; and finite
 * throughout. Rows that see no key have the lowest float32 as lse, exactly. The unfused formula runs on the active
 * backend, or on another one where that lacks some op's gradient.
 */
export async function expectRight(attentionCase: AttentionCase, yardstick = tf.getBackend()): Promise<void> {
  const draws = [await draw(attentionCase, 1, yardstick)];
  const {inputs, actual, expected} = draws[0];
  expectResultsWithin(actual, expected);

  for (const name of differentiableInputs(inputs)) {
    const values = (expected.gradients[name] as Numbers).length;
    const drawsNeeded = Math.ceil(ENOUGH_VALUES / (values || ENOUGH_VALUES));
    while (draws.length < drawsNeeded) draws.push(await draw(attentionCase, draws.length + 1, yardstick));
    const gradientOf = (results: (each: Draw) => Reference | AttentionResult) =>
      draws.slice(0, drawsNeeded).flatMap((each) => Array.from(results(each).gradients[name] as Numbers));
    const right = gradientOf((each) => each.expected);
    const unfusedError = worstError(
      gradientOf((each) => each.expected.unfused),
      right,
    );
    expectWithin(
      `gradient of ${name}`,
      gradientOf((each) => each.actual),
      right,
      3 * unfusedError,
    );
  }
  layoutOf(attentionCase)?.dispose();
}

/** The same rule, for a call whose gradient nobody asks for. */
export async function expectForwardRight(attentionCase: AttentionCase): Promise<void> {
  const inputs = makeInputs(attentionCase);
  const results = tf.tidy(() => {
    const [q, k, v] = [inputs.q, inputs.k, inputs.v].map(toTensor) as tf.Tensor4D[];
    const {output, lse} = flashAttentionWithLse(q, k, v, opOptions(attentionCase, inputs));
    return [output, lse];
  });
  const [output, lse] = await Promise.all(results.map((result) => result.data()));
  tf.dispose(results);
  expectResultsWithin({output, lse}, await expectationOf(attentionCase, 1, inputs, tf.getBackend()));
  layoutOf(attentionCase)?.dispose();
}

function expectResultsWithin(actual: {output: Numbers; lse: Numbers}, expected: Expectation): void {
  expectWithin('output', actual.output, expected.output, 2 * worstError(expected.unfused.output, expected.output));

  const sees = (i: number) => expected.lse[i] !== LOWEST_FLOAT32;
  const hiddenRows = Array.from(actual.lse).filter((_, i) => !sees(i));
  expect(hiddenRows.every((value) => value === Math.fround(LOWEST_FLOAT32)))
    .withContext('lse of rows that see no key')
    .toBe(true);
  const seen = (values: Numbers) => Array.from(values).filter((_, i) => sees(i));
  const lseError = worstError(seen(expected.unfused.lse), seen(expected.lse));
  expectWithin('lse', seen(actual.lse), seen(expected.lse), 2 * lseError);
}

export function expectWithin(what: string, actual: Numbers, expected: Numbers, allowed: number): void {
  expect(actual.length).withContext(`${what}: number of values`).toBe(expected.length);
  const bound = allowed + 1e-5;
  const error = worstError(actual, expected);
  expect(error <= bound)
    .withContext(`${what}: error ${error}, allowed ${bound}`)
    .toBe(true);
}

/** The largest absolute difference; NaN if anything is not finite. */
export function worstError(actual: Numbers, expected: Numbers): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    if (!Number.isFinite(actual[i])) return Number.NaN;
    worst = Math.max(worst, Math.abs(actual[i] - expected[i]));
  }
  return worst;
}
