/**
 * Trains a language model on the bytes of a text, in batches that are the same in every run. The last tenth of each
 * 16 KiB is held out, so that what is held out is as much like the rest as text is.
 */
import * as tf from '@tensorflow/tfjs-core';
import {randomIntegers} from './random_values.js';
import type {ScheduledAdam} from './scheduled_adam.js';

const SPAN = 16384;
const TRAINED_OF_SPAN = Math.floor(SPAN * 0.9);

/** The longest sequence that a held-out part can give, and the byte after it. */
export const LONGEST_SEQUENCE = SPAN - TRAINED_OF_SPAN - 1;
/** The shortest text. */
export const SHORTEST_TEXT = SPAN;

const HELD_OUT_BATCHES = 16;

export interface TextTask {
  text: Uint8Array;
  /** Stretches of text in a batch. */
  batch: number;
  /** Bytes in a stretch. */
  sequence: number;
  /** Mean cross-entropy of the targets, for int32 [batch, sequence] of each. */
  loss(inputs: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar;
}

/** Takes `count` steps, the first of them number `step`; resolves to their mean loss. */
export function trainSteps(task: TextTask, optimizer: ScheduledAdam, step: number, count: number): Promise<number> {
  return meanOf(
    Array.from({length: count}, (_, i) => {
      optimizer.enterStep(step + i);
      return withBatch(task, step + i, 'trained', (inputs, targets) => {
        return optimizer.minimize(() => task.loss(inputs, targets), true) as tf.Scalar;
      });
    }),
  );
}

/** The loss on the part of the text that is not trained on, on the same batches every time. */
export function heldOutLoss(task: TextTask): Promise<number> {
  return meanOf(
    Array.from({length: HELD_OUT_BATCHES}, (_, i) =>
      withBatch(task, i, 'held out', (inputs, targets) => tf.tidy(() => task.loss(inputs, targets))),
    ),
  );
}

/** Stretches of text from random places, and the bytes that follow each byte. */
function withBatch<T>(
  {text, batch, sequence}: TextTask,
  seed: number,
  part: 'trained' | 'held out',
  use: (inputs: tf.Tensor2D, targets: tf.Tensor2D) => T,
): T {
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
  const [inputs, targets] = [stack(0), stack(1)];
  const result = use(inputs, targets);
  tf.dispose([inputs, targets]);
  return result;
}

/** Waits for the losses of several batches, which it disposes. */
async function meanOf(losses: tf.Scalar[]): Promise<number> {
  const mean = tf.tidy(() => tf.mean(tf.stack(losses)));
  const [value] = await mean.data();
  tf.dispose([mean, ...losses]);
  return value;
}
