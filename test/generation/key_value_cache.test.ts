/** Attention through the cache, token by token, is causal attention over all tokens; and the cache stays where it is. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import * as tf from '@tensorflow/tfjs-core';
import {rectangles} from '../../kernels/webgl/texel_copies.js';
import {KeyValueCache} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';
import {
  attend,
  cacheCases,
  expectCacheRight,
  expectClose,
  fullAttention,
  makeTokens,
  optionsOf,
  rowsOf,
  type Tokens,
} from '../key_value_cache_results.js';

describeOnBackends('KeyValueCache', () => {
  for (const cacheCase of cacheCases) {
    it(`gives what causal attention over all tokens gives: ${JSON.stringify(cacheCase)}`, () =>
      expectCacheRight(cacheCase));
  }

  it('goes on after truncate, over what was there', async () => {
    const cacheCase = cacheCases[1];
    const tokens = makeTokens(cacheCase);
    const cache = new KeyValueCache(optionsOf(cacheCase));
    const before = attend(cache, tokens, 0, 6);
    const wrong = tokens.map((t) => tf.neg(t)) as Tokens;
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
    const [, k, v] = makeTokens(cacheCases[1]);
    const cache = new KeyValueCache(optionsOf(cacheCases[1]));
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

  it('stays in the memory that it took, and attention takes none for the room that is left', async () => {
    const cacheCase = {...cacheCases[0], capacity: 512, steps: Array(6).fill(1)};
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
    // The largest is a texture of scores: two rows of 128 keys for each head, however many the cache has room for.
    expect(Math.max(0, ...allocations())).toBeLessThanOrEqual(2 * 128 * cacheCase.H);
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

describeOnBackends(
  'KeyValueCache on WebGL',
  () => {
    it('finds its way in textures that are not as wide as a row, or narrower', async () => {
      const side = tf.env().getNumber('WEBGL_MAX_TEXTURE_SIZE');
      tf.env().set('WEBGL_MAX_TEXTURE_SIZE', 40);
      try {
        for (const cacheCase of cacheCases) await expectCacheRight({...cacheCase, capacity: 96});
      } finally {
        tf.env().set('WEBGL_MAX_TEXTURE_SIZE', side);
      }
    });

    it('moves to a packed texture if an op has put it into another', async () => {
      const [, k, v] = makeTokens(cacheCases[1]);
      const cache = new KeyValueCache(optionsOf(cacheCases[1]));
      const isPacked = () => (tf.backend() as MathBackendWebGL).texData.get(cache.keys.dataId).isPacked;
      tf.gather(cache.keys, tf.tensor1d([0], 'int32'), 1);
      expect(isPacked()).toBeFalsy();
      const dataIds = [0, 1, 2].map((first) => {
        cache.append(rowsOf(k, first, 1), rowsOf(v, first, 1));
        return cache.keys.dataId;
      });
      expect(isPacked()).toBeTrue();
      expect(dataIds[2]).toBe(dataIds[0]);
      tf.test_util.expectArraysEqual(await rowsOf(cache.keys, 0, 3).data(), await rowsOf(k, 0, 3).data());
      cache.dispose();
    });
  },
  {predicate: ({backendName}) => backendName === 'webgl'},
);

describe('The texels of a range', () => {
  it('are at most three rectangles: the rest of a row, whole rows, the begin of one', () => {
    expect(rectangles(3, 4, 10)).toEqual([{x: 3, y: 0, width: 4, height: 1}]);
    expect(rectangles(10, 20, 10)).toEqual([{x: 0, y: 1, width: 10, height: 2}]);
    expect(rectangles(8, 4, 10)).toEqual([
      {x: 8, y: 0, width: 2, height: 1},
      {x: 0, y: 1, width: 2, height: 1},
    ]);
    expect(rectangles(27, 35, 10)).toEqual([
      {x: 7, y: 2, width: 3, height: 1},
      {x: 0, y: 3, width: 10, height: 3},
      {x: 0, y: 6, width: 2, height: 1},
    ]);
  });
});

describeOnBackends(
  'KeyValueCache on WebGPU',
  () => {
    it('keeps the order also where tfjs does not let it record among its own commands', async () => {
      const backend = tf.backend();
      const ids = new WeakSet<object>();
      // Works like the set that kernels look for, but is none.
      const stranger = {add: (id: object) => ids.add(id), has: (id: object) => ids.has(id)};
      Object.defineProperty(backend, 'commandQueueOwnedIds', {get: () => stranger, set: () => {}, configurable: true});
      try {
        await expectCacheRight(cacheCases[0]);
      } finally {
        Object.defineProperty(backend, 'commandQueueOwnedIds', {
          value: new WeakSet(),
          writable: true,
          configurable: true,
          enumerable: true,
        });
      }
    });
  },
  {predicate: ({backendName}) => backendName === 'webgpu'},
);

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
