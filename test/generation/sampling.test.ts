/** What sampleToken draws, and how often. */
import {UniformRandom} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {type SampleTokenOptions, sampleToken} from '../../src/index.js';

const DRAWS = 20000;

/** Uniform numbers in [0, 1), the same ones every time. */
function seeded(seed: number): () => number {
  const uniform = new UniformRandom(0, 1, 'float32', seed);
  return () => uniform.nextValue();
}

/** How often each token is drawn. */
function frequencies(logits: number[], options: SampleTokenOptions): number[] {
  const counts = logits.map(() => 0);
  const random = seeded(7);
  for (let i = 0; i < DRAWS; i++) counts[sampleToken(logits, {...options, random})]++;
  return counts.map((count) => count / DRAWS);
}

/** The tokens that are drawn for random numbers all over [0, 1). */
function drawable(logits: number[], options: SampleTokenOptions): number[] {
  const steps = 1000;
  const drawn = Array.from({length: steps}, (_, i) => sampleToken(logits, {...options, random: () => i / steps}));
  return [...new Set(drawn)].sort((a, b) => a - b);
}

const logarithms = (probabilities: number[]) => probabilities.map(Math.log);

describe('sampleToken', () => {
  const probabilities = [0.1, 0.4, 0.05, 0.3, 0.15];
  const logits = logarithms(probabilities);

  it('takes the likeliest token at temperature 0, and the first of equals', () => {
    const random = () => fail('a random number was asked for') as never;
    expect(sampleToken(logits, {temperature: 0, random})).toBe(1);
    expect(sampleToken(Float32Array.of(-5, -2, -2, -3), {temperature: 0, random})).toBe(1);
    expect(sampleToken([-Infinity, -Infinity, -1e30], {temperature: 0, random})).toBe(2);
  });

  it('draws every token as often as softmax says', () => {
    expectNear(frequencies(logits, {}), probabilities);
    expectNear(frequencies([1, 1, 1, 1], {}), [0.25, 0.25, 0.25, 0.25]);
  });

  it('sharpens and flattens by temperature', () => {
    for (const temperature of [0.5, 2]) {
      const powers = probabilities.map((p) => p ** (1 / temperature));
      const sum = powers.reduce((a, b) => a + b);
      const expected = powers.map((power) => power / sum);
      expectNear(frequencies(logits, {temperature}), expected);
    }
  });

  it('draws none but the topK likeliest, in their proportion', () => {
    expect(drawable(logits, {topK: 1})).toEqual([1]);
    expect(drawable(logits, {topK: 3})).toEqual([1, 3, 4]);
    expect(drawable(logits, {topK: 5})).toEqual([0, 1, 2, 3, 4]);
    expect(drawable(logits, {topK: 99})).toEqual([0, 1, 2, 3, 4]);
    expectNear(frequencies(logits, {topK: 2}), [0, 4 / 7, 0, 3 / 7, 0]);
  });

  it('draws none but the nucleus of topP: the fewest of the likeliest that add up to it', () => {
    expect(drawable(logits, {topP: 0.01})).toEqual([1]);
    expect(drawable(logits, {topP: 0.39})).toEqual([1]);
    expect(drawable(logits, {topP: 0.41})).toEqual([1, 3]);
    expect(drawable(logits, {topP: 0.69})).toEqual([1, 3]);
    expect(drawable(logits, {topP: 0.71})).toEqual([1, 3, 4]);
    expect(drawable(logits, {topP: 0.96})).toEqual([0, 1, 2, 3, 4]);
    expectNear(frequencies(logits, {topP: 0.8}), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85]);
  });

  it('applies topP to what topK leaves, after temperature', () => {
    // Of the three likeliest, the first two have 0.7 / 0.85 = 0.82.
    expect(drawable(logits, {topK: 3, topP: 0.8})).toEqual([1, 3]);
    expect(drawable(logits, {topP: 0.8})).toEqual([1, 3, 4]);
    // Squared, the likeliest has 0.16 / 0.285 = 0.56.
    expect(drawable(logits, {temperature: 0.5, topP: 0.55})).toEqual([1]);
  });

  it('keeps the first of equals where a limit cuts through them', () => {
    expect(drawable([0, 1, 1, 1, 1], {topK: 2})).toEqual([1, 2]);
    expect(drawable([1, 1, 1, 1], {topP: 0.5})).toEqual([0, 1]);
    expect(drawable([1, 1, 1, 2], {topK: 2})).toEqual([0, 3]);
  });

  it('never draws a token of −Infinity, nor past the end', () => {
    expect(drawable([-Infinity, 0, -Infinity, 0], {})).toEqual([1, 3]);
    expect(drawable([-Infinity, 0, -Infinity, -Infinity], {topK: 3, topP: 0.99})).toEqual([1]);
    expect(sampleToken([0, 0, -Infinity], {random: () => 1 - 2 ** -53})).toBe(1);
  });

  it('is not led astray by the size of the logits, or by a tiny temperature', () => {
    expectNear(frequencies([1e30, 1e30, -1e30], {}), [0.5, 0.5, 0]);
    expectNear(
      frequencies(
        logits.map((logit) => logit - 1e5),
        {},
      ),
      probabilities,
    );
    expect(drawable([1, 2, 3], {temperature: 1e-300})).toEqual([2]);
  });

  it('says what is wrong', () => {
    expect(() => sampleToken([])).toThrowError(/logits must allow at least one token, got 0/);
    expect(() => sampleToken([-Infinity, -Infinity])).toThrowError(/logits .* none of them above −Infinity/);
    expect(() => sampleToken([0, Number.NaN])).toThrowError(/logits must be numbers below Infinity, got NaN at 1/);
    expect(() => sampleToken([Infinity])).toThrowError(/logits .* got Infinity at 0/);
    expect(() => sampleToken([0], {temperature: -1})).toThrowError(/temperature .* got -1/);
    expect(() => sampleToken([0], {temperature: Infinity})).toThrowError(/temperature .* got Infinity/);
    expect(() => sampleToken([0], {topK: 1.5})).toThrowError(/topK .* got 1.5/);
    expect(() => sampleToken([0], {topK: -1})).toThrowError(/topK .* got -1/);
    expect(() => sampleToken([0], {topP: 0})).toThrowError(/topP .* got 0/);
    expect(() => sampleToken([0], {topP: 1.1})).toThrowError(/topP .* got 1.1/);
  });
});

/** Within five standard deviations of as many draws. */
function expectNear(actual: number[], expected: number[]): void {
  actual.forEach((frequency, i) => {
    const deviation = Math.sqrt((expected[i] * (1 - expected[i])) / DRAWS);
    expect(Math.abs(frequency - expected[i]))
      .withContext(`token ${i}: ${frequency}, not ${expected[i]}`)
      .toBeLessThanOrEqual(5 * deviation);
  });
}
