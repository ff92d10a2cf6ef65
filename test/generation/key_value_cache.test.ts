/** Attention through the cache, token by token, is causal attention over all tokens; and the cache stays where it is. */
import * as tf from '@tensorflow/tfjs-core';
import {flashAttention, KeyValueCache} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';

interface CacheCase {
  B: number;
  H: number;
  Hk: number;
  D: number;
  Dv: number;
  capacity: number;
  /** Tokens appended at a time. */
  steps: number[];
}

const cases: CacheCase[] = [
  {B: 1, H: 4, Hk: 2, D: 6, Dv: 3, capacity: 12, steps: [1, 1, 1, 1, 1]},
  {B: 2, H: 6, Hk: 3, D: 5, Dv: 7, capacity: 9, steps: [4, 1, 1, 2, 1]},
  {B: 2, H: 1, Hk: 1, D: 6, Dv: 3, capacity: 80, steps: [66, 1, 1]},
];

const optionsOf = ({B, Hk, D, Dv, capacity}: CacheCase) => ({
  batch: B,
  capacity,
  numKvHeads: Hk,
  keyDim: D,
  valueDim: Dv,
});

/** q, k and v of all the tokens, [B, S, heads, depth]. */
function makeTokens({B, H, Hk, D, Dv, steps}: CacheCase): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] {
  const S = steps.reduce((sum, count) => sum + count);
  const random = (seed: number, heads: number, depth: number): tf.Tensor4D =>
    tf.randomNormal([B, S, heads, depth], 0, 1, 'float32', seed);
  return [random(1, H, D), random(2, Hk, D), random(3, Hk, Dv)];
}

function rowsOf(t: tf.Tensor4D, first: number, count: number): tf.Tensor4D {
  return tf.slice(t, [0, first, 0, 0], [-1, count, -1, -1]);
}

/** Appends tokens and lets them attend. */
function attend(
  cache: KeyValueCache,
  [q, k, v]: [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D],
  first: number,
  count: number,
): tf.Tensor4D {
  return tf.tidy(() => {
    cache.append(rowsOf(k, first, count), rowsOf(v, first, count));
    const {keys, values, keyLengths} = cache;
    return flashAttention(rowsOf(q, first, count), keys, values, {causal: true, keyLengths, order: 'BSHD'});
  });
}

function fullAttention([q, k, v]: [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D]): tf.Tensor4D {
  return flashAttention(q, k, v, {causal: true, order: 'BSHD'});
}

async function expectClose(actual: tf.Tensor, expected: tf.Tensor): Promise<void> {
  expect(actual.shape).toEqual(expected.shape);
  const values = await actual.data();
  expect(values.every(Number.isFinite)).toBeTrue();
  tf.test_util.expectArraysClose(values, await expected.data(), 1e-5);
}

describeOnBackends('KeyValueCache', () => {
  for (const cacheCase of cases) {
    it(`attention through it is causal attention over all tokens: ${JSON.stringify(cacheCase)}`, async () => {
      const {steps} = cacheCase;
      const tokens = makeTokens(cacheCase);
      const cache = new KeyValueCache(optionsOf(cacheCase));
      // No result is read before all is appended: the GPU still has to come to most of them.
      const outputs = steps.map((count) => attend(cache, tokens, cache.length, count));
      expect(cache.length).toBe(tokens[0].shape[1]);
      await expectClose(tf.concat(outputs, 1), fullAttention(tokens));
      cache.dispose();
    });
  }

  it('goes on after truncate, over what was there', async () => {
    const cacheCase = cases[1];
    const tokens = makeTokens(cacheCase);
    const cache = new KeyValueCache(optionsOf(cacheCase));
    const before = attend(cache, tokens, 0, 6);
    const wrong = tokens.map((t) => tf.neg(t)) as typeof tokens;
    const wrongOutput = attend(cache, wrong, 6, 3);
    cache.truncate(5);
    expect(cache.length).toBe(5);
    expect([...(await cache.keyLengths.data())]).toEqual([5, 5]);
    const after = attend(cache, tokens, 5, 4);
    const expected = fullAttention(tokens);
    await expectClose(before, rowsOf(expected, 0, 6));
    await expectClose(after, rowsOf(expected, 5, 4));
    expect((await wrongOutput.data()).every(Number.isFinite)).toBeTrue();
    cache.dispose();
  });

  it('holds what was appended, also after it was read between', async () => {
    const {steps, ...cacheCase} = cases[1];
    const [, k, v] = makeTokens({...cacheCase, steps});
    const cache = new KeyValueCache(optionsOf({...cacheCase, steps}));
    for (const [first, count] of [
      [0, 5],
      [5, 1],
      [6, 3],
    ]) {
      cache.append(rowsOf(k, first, count), rowsOf(v, first, count));
      const padded = (t: tf.Tensor4D): tf.Tensor4D => {
        const rows = rowsOf(t, 0, first + count);
        return tf.pad(rows, [
          [0, 0],
          [0, cache.capacity - cache.length],
          [0, 0],
          [0, 0],
        ]);
      };
      tf.test_util.expectArraysEqual(await cache.keys.data(), await padded(k).data());
      tf.test_util.expectArraysEqual(await cache.values.data(), await padded(v).data());
    }
    cache.dispose();
  });

  it('stays in the memory that it took', async () => {
    const cacheCase = {B: 1, H: 4, Hk: 4, D: 16, Dv: 16, capacity: 512, steps: Array(6).fill(1)};
    const tokens = makeTokens(cacheCase);
    const cache = new KeyValueCache(optionsOf(cacheCase));
    attend(cache, tokens, 0, 1);
    const {keys, values} = cache;
    const allocations = watchAllocations();
    const {numTensors} = tf.memory();
    for (let first = 1; first < 6; first++) attend(cache, tokens, first, 1).dispose();
    expect(tf.memory().numTensors).toBe(numTensors);
    expect(cache.keys.dataId).toBe(keys.dataId);
    expect(cache.values.dataId).toBe(values.dataId);
    expect(Math.max(0, ...allocations())).toBeLessThan(keys.size / 4);
    cache.dispose();
  });

  it('takes no tokens at all', () => {
    const cache = new KeyValueCache({batch: 2, capacity: 4, numKvHeads: 1, keyDim: 3});
    cache.append(tf.zeros([2, 0, 1, 3]), tf.zeros([2, 0, 1, 3]));
    expect(cache.length).toBe(0);
    expect(cache.keyLengths.shape).toEqual([2]);
    cache.dispose();
  });

  it('says what is wrong', () => {
    const sizes = {batch: 2, capacity: 4, numKvHeads: 1, keyDim: 3};
    expect(() => new KeyValueCache({...sizes, capacity: 0})).toThrowError(/capacity must be a positive integer, got 0/);
    expect(() => new KeyValueCache({...sizes, valueDim: 1.5})).toThrowError(/valueDim .* got 1.5/);
    const cache = new KeyValueCache(sizes);
    const rows = (shape: [number, number, number, number]) => tf.zeros<tf.Rank.R4>(shape);
    const right = rows([2, 1, 1, 3]);
    expect(() => cache.append(rows([2, 1, 2, 3]), right)).toThrowError(
      /key must be float32 \[B, Sn, Hk, D\] = \[2, Sn, 1, 3\], got float32 \[2, 1, 2, 3\]/,
    );
    expect(() => cache.append(right, rows([2, 2, 1, 3]))).toThrowError(
      /value must be float32 \[B, Sn, Hk, Dv\] = \[2, 1, 1, 3\], got float32 \[2, 2, 1, 3\]/,
    );
    expect(() => cache.append(tf.cast(right, 'int32'), right)).toThrowError(/key must be float32 .* got int32/);
    cache.append(rows([2, 3, 1, 3]), rows([2, 3, 1, 3]));
    expect(() => cache.append(rows([2, 2, 1, 3]), rows([2, 2, 1, 3]))).toThrowError(
      /capacity of 4 tokens: there are 3, and key of shape \[2, 2, 1, 3\] adds 2/,
    );
    expect(() => cache.truncate(4)).toThrowError(/length must be an integer between 0 and the 3 tokens .* got 4/);
    expect(cache.length).toBe(3);
    cache.dispose();
    cache.dispose();
    expect(() => cache.append(right, right)).toThrowError(/has been disposed/);
    expect(() => cache.keys).toThrowError(/has been disposed/);
  });
});

/** From now on in this spec: the elements of every buffer or texture that the backend takes, be it a used one. */
function watchAllocations(): () => number[] {
  const backend: object = tf.backend();
  if ('bufferManager' in backend) {
    const manager = backend.bufferManager as {acquireBuffer(bytes: number): unknown};
    const {calls} = spyOn(manager, 'acquireBuffer').and.callThrough();
    return () => calls.allArgs().map(([bytes]) => bytes / 4);
  }
  if ('acquireTexture' in backend) {
    const manager = backend as {acquireTexture(shape: [rows: number, columns: number]): unknown};
    const {calls} = spyOn(manager, 'acquireTexture').and.callThrough();
    return () => calls.allArgs().map(([[rows, columns]]) => rows * columns);
  }
  return () => [];
}
