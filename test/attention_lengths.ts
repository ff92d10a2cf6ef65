/** That attention reads no query and no key past the lengths, forward and backward, whatever stands there. */
import * as tf from '@tensorflow/tfjs-core';
import {flashAttentionWithLse} from '../src/index.js';
import {expectWithin} from './attention_results.js';

const [B, H, Sq, Sk, D] = [3, 2, 40, 45, 16];

/** By sample; the second has nothing, the third no key. */
const queryLengths = [13, 0, 7];
const keyLengths = [38, 0, 0];

function padded(rows: number, lengths: number[], seed: number, padding: number): tf.Tensor4D {
  const values = tf.randomNormal<tf.Rank.R4>([B, H, rows, D], 0, 1, 'float32', seed);
  const isPadding = tf.greaterEqual(tf.reshape(tf.range(0, rows), [1, 1, rows, 1]), tf.reshape(lengths, [B, 1, 1, 1]));
  return tf.where(isPadding, tf.fill([B, H, rows, D], padding), values);
}

async function resultsWith(padding: number) {
  const [q, k, v] = tf.tidy(() => [
    padded(Sq, queryLengths, 1, padding),
    padded(Sk, keyLengths, 2, padding),
    padded(Sk, keyLengths, 3, padding),
  ]);
  const attend = (...[q, k, v]: tf.Tensor[]) =>
    flashAttentionWithLse(q as tf.Tensor4D, k as tf.Tensor4D, v as tf.Tensor4D, {
      queryLengths: tf.tensor1d(queryLengths, 'int32'),
      keyLengths: tf.tensor1d(keyLengths, 'int32'),
    });
  const total = (...inputs: tf.Tensor[]) => {
    const {output, lse} = attend(...inputs);
    return tf.add(tf.sum(tf.square(output)), tf.sum(lse)) as tf.Scalar;
  };
  const {output, lse} = attend(q, k, v);
  const tensors = [output, lse, ...tf.grads(total)([q, k, v])];
  return Promise.all(tensors.map((tensor) => tensor.data<'float32'>()));
}

export async function expectNothingReadPastLengths(): Promise<void> {
  const [expected, actual] = [await resultsWith(0), await resultsWith(Number.NaN)];
  actual.forEach((values, i) => {
    expectWithin(['output', 'lse', 'dq', 'dk', 'dv'][i], values, expected[i], 0);
  });
}
