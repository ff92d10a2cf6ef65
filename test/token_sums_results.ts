/** Sums by token: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {randomIntegers} from '../bench/page/random_values.js';
import {tokenSums} from '../src/ops/token_sums.js';
import {expectWithin} from './attention_results.js';

export interface TokenSumsCase {
  rows: number;
  width: number;
  vocabSize: number;
  /** Whether some tokens are outside of [0, V). */
  outside?: boolean;
}

export const tokenSumsCases: TokenSumsCase[] = [
  {rows: 1, width: 1, vocabSize: 1},
  {rows: 7, width: 5, vocabSize: 3},
  {rows: 40, width: 8, vocabSize: 100},
  {rows: 33, width: 260, vocabSize: 4},
  {rows: 5, width: 1100, vocabSize: 2},
  {rows: 9, width: 6, vocabSize: 5, outside: true},
  // Several chunks of rows.
  {rows: 2049, width: 12, vocabSize: 7},
  {rows: 4500, width: 3, vocabSize: 50, outside: true},
];

export async function expectTokenSumsRight({rows, width, vocabSize, outside}: TokenSumsCase): Promise<void> {
  const shift = outside ? 2 : 0;
  const tokens = randomIntegers(1, rows, vocabSize + 2 * shift).map((token) => token - shift);
  const x = tf.randomNormal([rows, width], 0, 1, 'float32', 1) as tf.Tensor2D;
  const values = await x.data();
  const expected = new Float64Array(vocabSize * width);
  values.forEach((value, i) => {
    const token = tokens[Math.floor(i / width)];
    if (token >= 0 && token < vocabSize) expected[token * width + (i % width)] += value;
  });
  const places = tf.tensor1d(tokens, 'int32');
  const sums = tokenSums(x, places, vocabSize);
  expect(sums.shape).toEqual([vocabSize, width]);
  // The rows of a token are added up one after the other.
  const longest = rows / Math.min(rows, vocabSize);
  expectWithin('sums', await sums.data(), expected, longest * 2 ** -24);
  tf.dispose([x, places, sums]);
}
