/** What the ops say about bad input: an error that names the argument and shows shapes, before anything is computed. */
import * as tf from '@tensorflow/tfjs-core';
import {BlockLayout, type FlashAttentionOptions, flashAttention, flashAttentionWithLse} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';

type Options = Record<string, unknown>;

interface BadCall {
  q?: number[];
  k?: number[];
  v?: number[];
  dtype?: tf.DataType;
  options?: () => Options;
  message: string | RegExp;
}

const shapes = {q: [2, 4, 5, 8], k: [2, 2, 7, 8], v: [2, 2, 7, 8]};
const got = "got q [2, 4, 5, 8], k [2, 2, 7, 8], v [2, 2, 7, 8] (order 'BHSD')";

const badCalls: Record<string, BadCall> = {
  'q of rank 2': {q: [5, 8], message: /^flashAttention: q must have rank 3 or 4, \[B, H, S, D\].* got q \[5, 8\]/},
  'k of another rank': {k: [2, 7, 8], message: /^flashAttention: k must have the same rank as q; got .*k \[2, 7, 8\]/},
  'int32 matrices': {
    dtype: 'int32',
    message: `flashAttention: q must have dtype float32, got int32; ${got}.`,
  },
  'batch sizes that differ': {k: [3, 2, 7, 8], message: /^flashAttention: k must have q's batch size B = 2; got/},
  'batch size of v': {v: [1, 2, 7, 8], message: /^flashAttention: v must have q's batch size B = 2; got/},
  'head dimensions that differ': {
    k: [2, 2, 7, 9],
    message: /^flashAttention: k must have q's head dimension D = 8; got/,
  },
  'heads of v': {v: [2, 1, 7, 8], message: /^flashAttention: v must have k's number of heads Hk = 2; got/},
  'length of v': {v: [2, 2, 6, 8], message: /^flashAttention: v must have k's sequence length Sk = 7; got/},
  'H that is no multiple of Hk': {
    k: [2, 3, 7, 8],
    v: [2, 3, 7, 8],
    message: /^flashAttention: q's number of heads H = 4 must be a multiple of k's Hk = 3; got q \[2, 4, 5, 8\]/,
  },
  'D beyond 256': {
    q: [1, 1, 2, 257],
    k: [1, 1, 2, 257],
    v: [1, 1, 2, 8],
    message:
      /^flashAttention: the head dimension \(last axis\) of q must be from 1 to 256, got 257; got q \[1, 1, 2, 257\]/,
  },
  'a layout that is none': {
    options: () => ({layout: [[true]]}),
    message: 'flashAttention: layout must be a BlockLayout, got true.',
  },
  'a layout of another grid': {
    options: () => ({layout: BlockLayout.dense(8, 10, [4, 2])}),
    message: 'flashAttention: layout must have 2 × 4 blocks of 4 × 2 to cover [Sq, Sk] = [5, 7], got 2 × 5.',
  },
  'a layout for another number of heads': {
    options: () => ({
      layout: BlockLayout.from({rowBlocks: 2, colBlocks: 2, blockSize: 4, heads: 3, isLive: () => true}),
    }),
    message: 'flashAttention: layout must have one pattern, or one for each of H = 4 heads, got 3.',
  },
  'Dv of 0': {
    v: [2, 2, 7, 0],
    message: /^flashAttention: the head dimension \(last axis\) of v must be from 1 to 256, got 0/,
  },
  'scale NaN': option({scale: Number.NaN}, 'scale must be a finite number that is not negative, got NaN.'),
  'negative scale': option({scale: -1}, 'scale must be a finite number that is not negative, got -1.'),
  'infinite scale': option(
    {scale: Number.POSITIVE_INFINITY},
    'scale must be a finite number that is not negative, got Infinity.',
  ),
  'negative softcap': option({softcap: -3}, 'softcap must be a finite number that is not negative, got -3.'),
  'causal that is no boolean': option({causal: 1}, 'causal must be true or false, got 1.'),
  'window of one number': option({window: [3]}, /^flashAttention: window must be \[left, right\].* got \[3\]/),
  'window of fractions': option({window: [1.5, 0]}, /^flashAttention: window must be .* got \[1.5,0\]/),
  'window below −1': option({window: [-2, 0]}, /^flashAttention: window must be .* got \[-2,0\]/),
  'dropout rate 1': option({dropout: {rate: 1, seed: 0}}, 'dropout.rate must be at least 0 and below 1, got 1.'),
  'dropout seed': option({dropout: {rate: 0.5, seed: 0.5}}, 'dropout.seed must be an integer, got 0.5.'),
  'unknown order': option({order: 'SBHD'}, "order must be 'BHSD' or 'BSHD', got 'SBHD'."),
  'unknown precision': option({precision: 'low'}, "precision must be 'highest' or 'fast', got 'low'."),
  'unknown option': option(
    {isCausal: true},
    /^flashAttention: unknown option 'isCausal'; the options are scale, causal/,
  ),
  'bias that does not broadcast': withTensor(
    () => ({bias: tf.zeros([4, 5, 6])}),
    'bias must broadcast to [B, H, Sq, Sk] = [2, 4, 5, 7], got [4, 5, 6].',
  ),
  'bias of rank 5': withTensor(
    () => ({bias: tf.zeros([1, 1, 1, 1, 1])}),
    'bias must broadcast to [B, H, Sq, Sk] = [2, 4, 5, 7], got [1, 1, 1, 1, 1].',
  ),
  'int32 bias': withTensor(
    () => ({bias: tf.zeros([5, 7], 'int32')}),
    'bias must have dtype float32, got int32 with shape [5, 7].',
  ),
  'mask that does not broadcast': withTensor(
    () => ({mask: tf.ones([5, 5], 'bool')}),
    'mask must broadcast to [B, H, Sq, Sk] = [2, 4, 5, 7], got [5, 5].',
  ),
  'float mask': withTensor(
    () => ({mask: tf.ones([5, 7])}),
    'mask must have dtype bool, got float32 with shape [5, 7].',
  ),
  'slopes of the wrong length': withTensor(
    () => ({alibiSlopes: tf.ones([2])}),
    'alibiSlopes must have shape [H] = [4] or [B, H] = [2, 4], got [2].',
  ),
  'slopes of the wrong batch': withTensor(
    () => ({alibiSlopes: tf.ones([1, 4])}),
    'alibiSlopes must have shape [H] = [4] or [B, H] = [2, 4], got [1, 4].',
  ),
  'float lengths': withTensor(
    () => ({keyLengths: tf.ones([2])}),
    'keyLengths must have dtype int32, got float32 with shape [2].',
  ),
  'lengths of the wrong batch': withTensor(
    () => ({queryLengths: tf.tensor1d([1, 2, 3], 'int32')}),
    'queryLengths must have shape [B] = [2], got [3].',
  ),
  'key lengths beyond Sk': withTensor(
    () => ({keyLengths: tf.tensor1d([7, 8], 'int32')}),
    'keyLengths must lie between 0 and Sk = 7, got 8 for sample 1.',
  ),
  'query lengths beyond Sq': option(
    {queryLengths: [6, 0]},
    'queryLengths must lie between 0 and Sq = 5, got 6 for sample 0.',
  ),
  'negative lengths': option(
    {queryLengths: [5, -1]},
    'queryLengths must lie between 0 and Sq = 5, got -1 for sample 1.',
  ),
};

function option(options: Options, message: string | RegExp): BadCall {
  return withTensor(() => options, message);
}

function withTensor(options: () => Options, message: string | RegExp): BadCall {
  return {options, message: typeof message === 'string' ? `flashAttention: ${message}` : message};
}

function matrices({q, k, v, dtype}: BadCall): [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D] {
  const make = (shape: number[]) => tf.zeros<tf.Rank>(shape as tf.Tensor['shape'], dtype) as tf.Tensor4D;
  return [make(q ?? shapes.q), make(k ?? shapes.k), make(v ?? shapes.v)];
}

describeOnBackends('flashAttention refuses', () => {
  for (const [name, badCall] of Object.entries(badCalls)) {
    it(name, () => {
      const [q, k, v] = matrices(badCall);
      const options = badCall.options?.() as FlashAttentionOptions;
      const {numTensors, numDataBuffers} = tf.memory();
      expect(() => flashAttention(q, k, v, options)).toThrowError(Error, badCall.message);
      expect(tf.memory().numTensors).withContext('tensors left behind').toBe(numTensors);
      expect(tf.memory().numDataBuffers).withContext('buffers left behind').toBe(numDataBuffers);
    });
  }

  it('under the name of the op that was called', () => {
    const [q, k, v] = matrices({message: '', k: [2, 2, 7, 9]});
    expect(() => flashAttentionWithLse(q, k, v)).toThrowError(/^flashAttentionWithLse: k must have/);
    expect(() => q.flashAttention(k, v)).toThrowError(/^flashAttention: k must have/);
  });

  it('what is no tensor', () => {
    const [q, k] = matrices({message: ''});
    const nothing = undefined as unknown as tf.Tensor4D;
    expect(() => flashAttention(q, k, nothing)).toThrowError(
      'flashAttention: v must be a tensor or an array of numbers, got undefined.',
    );
  });
});
