/**
 * Batches of bytes of a text to train a language model on. The last tenth of each 16 KiB is held out, so that what is
 * held out is as much like the rest as text is.
 */
import * as tf from '@tensorflow/tfjs-core';
import {randomIntegers} from './random_values.js';

const SPAN = 16384;
const TRAINED_OF_SPAN = Math.floor(SPAN * 0.9);

/** The longest sequence that a held-out part can give, and the byte after it. */
export const LONGEST_SEQUENCE = SPAN - TRAINED_OF_SPAN - 1;
/** The shortest text. */
export const SHORTEST_TEXT = SPAN;

export interface BatchSizes {
  batch: number;
  sequence: number;
}

/** Stretches of text from random places, the same for every caller, and the bytes that follow each byte. */
export function textBatch(
  {batch, sequence}: BatchSizes,
  text: Uint8Array,
  seed: number,
  part: 'trained' | 'held out',
): {inputs: tf.Tensor2D; targets: tf.Tensor2D} {
  const [begin, end] = part === 'trained' ? [0, TRAINED_OF_SPAN] : [TRAINED_OF_SPAN, SPAN];
  const spans = randomIntegers(2 * seed, batch, Math.floor(text.length / SPAN));
  const places = randomIntegers(2 * seed + 1, batch, end - begin - sequence);
  const stretches = spans.map((span, i) => {
    const start = span * SPAN + begin + places[i];
    return text.subarray(start, start + sequence + 1);
  });
  const stack = (offset: number) => {
    const values = Int32Array.from(stretches.flatMap((stretch) => [...stretch.subarray(offset, sequence + offset)]));
    return tf.tensor2d(values, [batch, sequence], 'int32');
  };
  return {inputs: stack(0), targets: stack(1)};
}

/** Waits for the losses of several batches, which it disposes. */
export async function meanOf(losses: tf.Scalar[]): Promise<number> {
  const mean = tf.tidy(() => tf.mean(tf.stack(losses)));
  const [value] = await mean.data();
  tf.dispose([mean, ...losses]);
  return value;
}
