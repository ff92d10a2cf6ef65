/** The function `sampleToken`. */

/** Options of {@link sampleToken}. They compose: temperature, then topK, then topP among what topK leaves. */
export interface SampleTokenOptions {
  /** Logits are divided by it: below 1 favours likely tokens, 0 takes the likeliest. Default 1. */
  temperature?: number;
  /** Only the so many likeliest tokens may be drawn; 0 (the default) sets no limit. */
  topK?: number;
  /**
   * Nucleus sampling: only the fewest of the likeliest tokens whose probabilities add up to at least this may be drawn.
   * Above 0; 1 (the default) sets no limit.
   */
  topP?: number;
  /** Uniform numbers in [0, 1). Default Math.random. */
  random?: () => number;
}

/**
 * Draws a token from softmax(logits / temperature), cut off to the likeliest ones. Of equally likely tokens, the first
 * counts as the likelier.
 *
 * A logit of −Infinity excludes its token. Logits may be of any size: the largest is subtracted first.
 *
 * Source of topP: Holtzman, Buys, Du, Forbes and Choi, "The Curious Case of Neural Text Degeneration" (2020, arXiv
 * 1904.09751).
 *
 * ```js
 * const logits = await tf.tidy(() => tf.randomNormal([100])).data();
 * const token = tf.sampleToken(logits, {temperature: 0.8, topK: 40, topP: 0.95});
 * console.log(tf.sampleToken([0.1, 3, 0.2], {temperature: 0}), token < 100); // 1 true
 * ```
 *
 * @param logits one per token of the vocabulary: what `data()` or `dataSync()` gives for the logits of one sample.
 * @param options see {@link SampleTokenOptions}.
 * @returns the index of a token.
 * @throws Error that names the argument and its value, if one does not fit.
 */
export function sampleToken(logits: Float32Array | number[], options: SampleTokenOptions = {}): number {
  const {temperature = 1, topK = 0, topP = 1, random = Math.random} = options;
  if (!(Number.isFinite(temperature) && temperature >= 0)) {
    fail(`temperature must be a finite number that is not negative, got ${temperature}.`);
  }
  if (!(Number.isInteger(topK) && topK >= 0)) fail(`topK must be an integer that is not negative, got ${topK}.`);
  if (!(topP > 0 && topP <= 1)) fail(`topP must be above 0 and at most 1, got ${topP}.`);

  const likeliest = indexOfLargest(logits);
  if (temperature === 0) return likeliest;
  const largest = logits[likeliest];
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  if ((topK > 0 && topK < weights.length) || topP < 1) cutOff(weights, topK, topP);
  return draw(weights, random());
}

function indexOfLargest(logits: ArrayLike<number>): number {
  let largest = -1;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i];
    if (!(logit < Infinity)) fail(`logits must be numbers below Infinity, got ${logit} at ${i}.`);
    if (logit > (logits[largest] ?? -Infinity)) largest = i;
  }
  if (largest < 0) fail(`logits must allow at least one token, got ${logits.length}, none of them above −Infinity.`);
  return largest;
}

/** Sets the weights of tokens that may not be drawn to 0. */
function cutOff(weights: Float64Array, topK: number, topP: number): void {
  const descending = weights.slice().sort().reverse();
  const candidates = topK > 0 ? descending.subarray(0, topK) : descending;
  const enough = topP * sumOf(candidates);
  let count = 0;
  for (let mass = 0; count < candidates.length && mass < enough; count++) mass += candidates[count];

  const smallest = descending[count - 1];
  let equalsLeft = count - descending.indexOf(smallest);
  for (let i = 0; i < weights.length; i++) {
    const isKept = weights[i] > smallest || (weights[i] === smallest && equalsLeft-- > 0);
    if (!isKept) weights[i] = 0;
  }
}

/** The index at which the running sum of the weights passes the fraction of their whole. */
function draw(weights: Float64Array, fraction: number): number {
  let left = fraction * sumOf(weights);
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    last = i;
    left -= weights[i];
    if (left < 0) break;
  }
  // Rounding may leave a little after the last token that can be drawn.
  return last;
}

function sumOf(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function fail(message: string): never {
  throw new Error(`sampleToken: ${message}`);
}
