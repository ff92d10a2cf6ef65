/** Attention through a {@link KeyValueCache}, and whether it is causal attention over all tokens. */
import * as tf from '@tensorflow/tfjs-core';
import {flashAttention, KeyValueCache, type KeyValueCacheOptions} from '../src/index.js';

export interface CacheCase {
  B: number;
  H: number;
  Hk: number;
  D: number;
  Dv: number;
  capacity: number;
  /** Tokens appended at a time. */
  steps: number[];
}

export const cacheCases: CacheCase[] = [
  {B: 1, H: 4, Hk: 2, D: 6, Dv: 3, capacity: 12, steps: [1, 1, 1, 1, 1]},
  {B: 2, H: 6, Hk: 3, D: 5, Dv: 7, capacity: 9, steps: [4, 1, 1, 2, 1]},
  {B: 2, H: 1, Hk: 1, D: 6, Dv: 3, capacity: 80, steps: [66, 1, 1]},
];

export const optionsOf = ({B, Hk, D, Dv, capacity}: CacheCase): KeyValueCacheOptions => ({
  batch: B,
  capacity,
  numKvHeads: Hk,
  keyDim: D,
  valueDim: Dv,
});

/** q, k and v of all the tokens, [B, S, heads, depth]. */
export type Tokens = [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];

export function makeTokens({B, H, Hk, D, Dv, steps}: CacheCase): Tokens {
  const S = steps.reduce((sum, count) => sum + count);
  const random = (seed: number, heads: number, depth: number): tf.Tensor4D =>
    tf.randomNormal([B, S, heads, depth], 0, 1, 'float32', seed);
  return [random(1, H, D), random(2, Hk, D), random(3, Hk, Dv)];
}

export function rowsOf(t: tf.Tensor4D, first: number, count: number): tf.Tensor4D {
  return tf.slice(t, [0, first, 0, 0], [-1, count, -1, -1]);
}

/** Appends tokens and lets them attend. */
export function attend(cache: KeyValueCache, [q, k, v]: Tokens, first: number, count: number): tf.Tensor4D {
  return tf.tidy(() => {
    cache.append(rowsOf(k, first, count), rowsOf(v, first, count));
    const {keys, values, keyLengths} = cache;
    return flashAttention(rowsOf(q, first, count), keys, values, {causal: true, keyLengths, order: 'BSHD'});
  });
}

export function fullAttention([q, k, v]: Tokens): tf.Tensor4D {
  // The lengths say nothing; with them, all calls share one shader.
  const keyLengths = Array(q.shape[0]).fill(q.shape[1]);
  return flashAttention(q, k, v, {causal: true, keyLengths, order: 'BSHD'});
}

export async function expectClose(actual: tf.Tensor, expected: tf.Tensor): Promise<void> {
  expect(actual.shape).toEqual(expected.shape);
  const values = await actual.data();
  expect(values.every(Number.isFinite)).toBeTrue();
  tf.test_util.expectArraysClose(values, await expected.data(), 1e-5);
}

/** Appends all tokens in the steps of the case; what they attend to must be what causal attention over all gives. */
export async function expectCacheRight(cacheCase: CacheCase): Promise<void> {
  const tokens = makeTokens(cacheCase);
  const cache = new KeyValueCache(optionsOf(cacheCase));
  // No result is read before all is appended: the GPU still has to come to most of them.
  const outputs = cacheCase.steps.map((count) => attend(cache, tokens, cache.length, count));
  expect(cache.length).toBe(tokens[0].shape[1]);
  const [actual, expected] = [tf.concat(outputs, 1), fullAttention(tokens)];
  await expectClose(actual, expected);
  cache.dispose();
  tf.dispose([...tokens, ...outputs, actual, expected]);
}
