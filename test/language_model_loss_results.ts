/** The language model's loss: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {randomIntegers} from '../bench/page/random_values.js';
import {languageModelLoss} from '../src/index.js';
import {expectWithin} from './attention_results.js';

export interface LossCase {
  /** Of the targets. */
  places: number[];
  vocabSize: number;
  /** The logits' standard deviation. */
  magnitude?: number;
}

export const lossCases: LossCase[] = [
  ...[1, 2, 3, 4, 7, 16, 63, 64, 65, 100, 256, 257, 1000, 1024].map((vocabSize) => ({places: [2, 5], vocabSize})),
  {places: [1], vocabSize: 6},
  {places: [7], vocabSize: 11},
  {places: [2, 3, 4], vocabSize: 12},
  {places: [3], vocabSize: 4096},
  {places: [3], vocabSize: 4099},
  {places: [2, 1], vocabSize: 50257},
  {places: [1], vocabSize: 200_000},
  {places: [3, 5], vocabSize: 130, magnitude: 1e4},
  {places: [33], vocabSize: 3000, magnitude: 50},
  // More rows than WebGPU has workgroups along a dimension.
  {places: [70_001], vocabSize: 2},
  {places: [65_537], vocabSize: 20},
];

/** The mean cross-entropy and its gradient for the logits, in float64. */
export function exactLoss(logits: ArrayLike<number>, targets: ArrayLike<number>, vocabSize: number) {
  const rows = targets.length;
  const gradient = new Float64Array(logits.length);
  let loss = 0;
  for (let row = 0; row < rows; row++) {
    const base = row * vocabSize;
    let highest = -Infinity;
    for (let i = 0; i < vocabSize; i++) highest = Math.max(highest, logits[base + i]);
    let sum = 0;
    for (let i = 0; i < vocabSize; i++) sum += Math.exp(logits[base + i] - highest);
    for (let i = 0; i < vocabSize; i++) gradient[base + i] = Math.exp(logits[base + i] - highest) / sum / rows;
    gradient[base + targets[row]] -= 1 / rows;
    loss += (Math.log(sum) + highest - logits[base + targets[row]]) / rows;
  }
  return {loss, gradient};
}

/** @param roundings what the loss may be off by, beside 1e-5, as a part of it. */
export async function expectLossRight(lossCase: LossCase, roundings = 1e-6): Promise<void> {
  const {places, vocabSize, magnitude = 2} = lossCase;
  const rows = tf.util.sizeFromShape(places);
  const normal = new MPRandGauss(0, magnitude, 'float32', false, 1);
  const values = Float32Array.from({length: rows * vocabSize}, () => normal.nextValue());
  const targets = randomIntegers(2, rows, vocabSize);
  const expected = exactLoss(values, targets, vocabSize);
  const dLoss = 3;
  const results = tf.tidy(() => {
    const logits = tf.tensor(values, [...places, vocabSize]);
    const f = (x: tf.Tensor) => languageModelLoss(tf.tensor(targets, places, 'int32'), x);
    return [f(logits), tf.grad(f)(logits, tf.scalar(dLoss))];
  });
  expect(results.map(({shape}) => shape)).toEqual([[], [...places, vocabSize]]);
  const [loss, gradient] = await Promise.all(results.map((t) => t.data()));
  tf.dispose(results);
  expectWithin('loss', loss, [expected.loss], roundings * expected.loss);
  // Times the number of rows, by which every element is divided.
  const ofRows = (result: ArrayLike<number>) => Float64Array.from(result, (value) => value * rows);
  const exact = expected.gradient.map((value) => value * dLoss);
  expectWithin('gradient', ofRows(gradient), ofRows(exact), 0);
}
