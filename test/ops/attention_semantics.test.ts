/** What attention means at its edges: alignment, rows that see nothing, empty tensors, NaN, dropout, determinism. */
import * as tf from '@tensorflow/tfjs-core';
import {attentionForward} from '../../kernels/cpu/attention_rows.js';
import {dropoutBits} from '../../kernels/cpu/dropout.js';
import {type FlashAttentionOptions, flashAttention, flashAttentionWithLse} from '../../src/index.js';
import {LOWEST_FLOAT32} from '../../src/kernel_names.js';
import {makeInputs, oracleProblem, toTensor} from '../attention_inputs.js';
import {expectNothingReadPastLengths} from '../attention_lengths.js';
import {expectRight, expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

type Shape4D = [number, number, number, number];

const random = (shape: Shape4D, seed: number) => tf.randomNormal<tf.Rank.R4>(shape, 0, 1, 'float32', seed);

/** Output, lse and the gradients for q, k and v of a weighted sum of both. */
async function everything(q: tf.Tensor4D, k: tf.Tensor4D, v: tf.Tensor4D, options: FlashAttentionOptions) {
  const tensors = tf.tidy(() => {
    const {output, lse} = flashAttentionWithLse(q, k, v, options);
    const sum = (...xs: tf.Tensor[]) => {
      const result = flashAttentionWithLse(xs[0] as tf.Tensor4D, xs[1] as tf.Tensor4D, xs[2] as tf.Tensor4D, options);
      return tf.add(tf.sum(tf.square(result.output)), tf.sum(result.lse)) as tf.Scalar;
    };
    return [output, lse, ...tf.grads(sum)([q, k, v])];
  });
  const results = await Promise.all(tensors.map((tensor) => tensor.data<'float32'>()));
  tf.dispose(tensors);
  return results;
}

describeOnBackends('flashAttention', () => {
  it('aligns the causal mask at the bottom right', async () => {
    // Equal scores: each row's output is the mean of the keys it sees.
    const q = tf.zeros<tf.Rank.R4>([1, 1, 2, 4]);
    const k = tf.zeros<tf.Rank.R4>([1, 1, 4, 4]);
    const v = tf.tensor4d([1, 2, 3, 10], [1, 1, 4, 1]);
    expectWithin('causal', await flashAttention(q, k, v, {causal: true}).data(), [2, 4], 0);
    expectWithin('window', await flashAttention(q, k, v, {window: [1, 0]}).data(), [2.5, 6.5], 0);
    const longer = flashAttention(k, q, tf.slice(v, [0, 0, 0, 0], [1, 1, 2, 1]), {causal: true});
    expectWithin('more queries than keys', await longer.data(), [0, 0, 1, 1.5], 0);
  });

  it('gives 0, no gradient and the lowest lse in rows that see nothing', async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random([2, 2, 9, 16], seed));
    const hidden: Record<string, FlashAttentionOptions> = {
      mask: {mask: tf.zeros([1, 1, 9, 1], 'bool')},
      'key lengths': {keyLengths: tf.tensor1d([0, 0], 'int32')},
      'query lengths': {queryLengths: tf.tensor1d([0, 0], 'int32')},
      'bias of −∞': {bias: tf.fill([9, 1], Number.NEGATIVE_INFINITY)},
    };
    for (const [name, options] of Object.entries(hidden)) {
      const [output, lse, ...gradients] = await everything(q, k, v, options);
      expect(lse.every((value) => value === Math.fround(LOWEST_FLOAT32)))
        .withContext(`lse, ${name}`)
        .toBe(true);
      for (const values of [output, ...gradients]) {
        expect(values.every((value) => value === 0))
          .withContext(`zeros, ${name}`)
          .toBe(true);
      }
    }
  });

  it('hides a key by a bias of −∞ exactly as by a mask', async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random([1, 2, 9, 16], seed));
    const shown = tf.tensor1d([1, 0, 1, 1, 0, 1, 1, 0, 1], 'bool');
    const bias = tf.where(shown, tf.zeros([9]), tf.fill([9], Number.NEGATIVE_INFINITY));
    const byBias = await everything(q, k, v, {bias});
    const byMask = await everything(q, k, v, {mask: shown});
    byBias.forEach((values, i) => {
      expectWithin(`result ${i}`, values, byMask[i], 0);
    });
  });

  for (const [name, shapes] of Object.entries({
    'no batch': [
      [0, 2, 3, 8],
      [0, 2, 4, 8],
    ],
    'no head': [
      [2, 0, 3, 8],
      [2, 0, 4, 8],
    ],
    'no query': [
      [2, 2, 0, 8],
      [2, 2, 4, 8],
    ],
    'no key': [
      [2, 2, 3, 8],
      [2, 2, 0, 8],
    ],
  } as Record<string, [Shape4D, Shape4D]>)) {
    it(`of ${name} is empty or zero`, async () => {
      const [q, k] = shapes.map((shape) => tf.ones<tf.Rank.R4>(shape));
      const {output, lse} = flashAttentionWithLse(q, k, k);
      expect(output.shape).toEqual(shapes[0]);
      expect(lse.shape).toEqual(shapes[0].slice(0, 3) as tf.Tensor3D['shape']);
      expect(Array.from(await output.data())).toEqual(Array(output.size).fill(0));
      expect(Array.from(await lse.data())).toEqual(Array(lse.size).fill(Math.fround(LOWEST_FLOAT32)));
      const gradients = tf.grads((a, b) => flashAttention(a as tf.Tensor4D, b as tf.Tensor4D, b as tf.Tensor4D))(
        [q, k],
        tf.ones(output.shape),
      );
      for (const [i, gradient] of gradients.entries()) {
        expect(gradient.shape).toEqual(shapes[i]);
        expect(Array.from(await gradient.data())).toEqual(Array(gradient.size).fill(0));
      }
    });
  }

  it('passes NaN on to the rows that hold it, and to no others', async () => {
    const values = Float32Array.from({length: 9 * 16}, (_, i) => Math.sin(i));
    values[3 * 16 + 2] = Number.NaN;
    const q = tf.tensor4d(values, [1, 1, 9, 16]);
    const [k, v] = [2, 3].map((seed) => random([1, 1, 9, 16], seed));
    const output = await flashAttention(q, k, v).data();
    output.forEach((value, i) => {
      expect(Number.isNaN(value))
        .withContext(`row ${Math.floor(i / 16)}`)
        .toBe(Math.floor(i / 16) === 3);
    });
  });

  it('reads nothing past the lengths', expectNothingReadPastLengths);

  it('takes more heads than a GPU has workgroups in a row', async () => {
    const attentionCase = {B: 33_000, H: 2, Hk: 2, Sq: 1, Sk: 2, D: 2, Dv: 2};
    const inputs = makeInputs(attentionCase);
    const [q, k, v] = [inputs.q, inputs.k, inputs.v].map((t) => toTensor(t) as tf.Tensor4D);
    const expected = attentionForward(oracleProblem(attentionCase, inputs));
    const {output, lse} = flashAttentionWithLse(q, k, v);
    expectWithin('output', await output.data(), expected.output, 0);
    expectWithin('lse', await lse.data(), expected.lse, 0);
  });

  it('gives the same bits every time, forward and backward', async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random([2, 2, 37, 16], seed));
    const options = {causal: true, dropout: {rate: 0.2, seed: 4}};
    const first = await everything(q, k, v, options);
    for (let run = 1; run < 50; run++) {
      const again = await everything(q, k, v, options);
      again.forEach((values, i) => {
        expect(sameBits(values, first[i])).withContext(`result ${i} of run ${run}`).toBe(true);
      });
    }
  });

  it('takes rank 3, a chained call and BSHD order for the same thing', async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random([1, 2, 9, 16], seed));
    const expected = await flashAttention(q, k, v, {causal: true}).data();
    const [q3, k3, v3] = [q, k, v].map((t) => tf.squeeze<tf.Tensor3D>(t, [0]));
    const output3 = flashAttention(q3, k3, v3, {causal: true});
    expect(output3.shape).toEqual([2, 9, 16]);
    expectWithin('rank 3', await output3.data(), expected, 0);
    expectWithin('chained', await q.flashAttention(k, v, {causal: true}).data(), expected, 0);
    const [qT, kT, vT] = [q, k, v].map((t) => tf.transpose(t, [0, 2, 1, 3]));
    const outputT = flashAttention(qT, kT, vT, {causal: true, order: 'BSHD'});
    expect(outputT.shape).toEqual([1, 9, 2, 16]);
    expectWithin('BSHD', await tf.transpose(outputT, [0, 2, 1, 3]).data(), expected, 0);
  });

  it('takes arrays as well as tensors', async () => {
    const [q, k, v] = [1, 2, 3].map((seed) => random([1, 2, 9, 16], seed));
    const [qArray, kArray, vArray] = await Promise.all([q, k, v].map((t) => t.array()));
    const expected = await flashAttention(q, k, v).data();
    expectWithin('arrays', await flashAttention(qArray, kArray, vArray).data(), expected, 0);
  });
});

describeOnBackends('Dropout of flashAttention', () => {
  const S = 64;

  /** With equal scores and the identity as values, the output is the probabilities. */
  async function probabilities(dropout: FlashAttentionOptions['dropout']): Promise<Float32Array> {
    const zeros = tf.zeros<tf.Rank.R4>([1, 2, S, 16]);
    const identity = tf.tile<tf.Tensor4D>(tf.reshape(tf.eye(S), [1, 1, S, S]), [1, 2, 1, 1]);
    return flashAttention(zeros, zeros, identity, {dropout}).data<'float32'>();
  }

  it('drops what the generator says, and raises the rest', async () => {
    const rate = 0.3;
    const actual = await probabilities({rate, seed: 77});
    const expected = actual.map((_, i) => {
      const [head, query, key] = [Math.floor(i / (S * S)), Math.floor(i / S) % S, i % S];
      const dropped = dropoutBits(77, head, query, key >> 2)[key & 3] < Math.floor(rate * 2 ** 32);
      return dropped ? 0 : 1 / S / (1 - rate);
    });
    expectWithin('probabilities', actual, expected, 0);
    const fraction = actual.filter((value) => value === 0).length / actual.length;
    expect(Math.abs(fraction - rate)).toBeLessThan(0.01);
  });

  it('follows the seed', async () => {
    const first = await probabilities({rate: 0.3, seed: 1});
    expect(sameBits(await probabilities({rate: 0.3, seed: 1}), first)).toBe(true);
    expect(sameBits(await probabilities({rate: 0.3, seed: 2}), first)).toBe(false);
    expect(sameBits(await probabilities({rate: 0.3}), await probabilities({rate: 0.3})))
      .withContext('without a seed')
      .toBe(false);
  });

  it('of rate 0 is none', async () => {
    expect(sameBits(await probabilities({rate: 0, seed: 1}), await probabilities(undefined))).toBe(true);
  });

  it('has the gradient of the same mask', () =>
    expectRight({B: 1, H: 2, Hk: 2, Sq: 37, Sk: 53, D: 16, Dv: 16, dropout: {rate: 0.9, seed: 1}}));
});

function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
  return a.length === b.length && bits(a).every((value, i) => value === bits(b)[i]);
}
