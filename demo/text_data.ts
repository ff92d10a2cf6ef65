/** The text to learn: read from a file, checked, and cut into batches for training and for the held-out loss. */
import {randomIntegers} from '../bench/page/random_values.js';
import * as tf from '../src/tf.js';
import {formatCount} from './dom.js';
import {Problem} from './problem.js';
import type {TextTokenizer} from './tokenizer.js';

export interface TextSource {
  name: string;
  text: string;
}

/** Inputs and targets, both int32 [batch, sequence]; the targets are one token ahead. */
export interface Batch {
  inputs: tf.Tensor2D;
  targets: tf.Tensor2D;
}

/** The share of a text, at its end, that is not trained on. */
const HELD_OUT_SHARE = 0.1;
/** The least of it that gives a loss worth drawing. */
const LEAST_HELD_OUT = 16;
/** The most stretches of text in the held-out loss, and the most batches. */
const HELD_OUT_STRETCHES = 8;
const HELD_OUT_BATCHES = 2;
/** Control characters that a text may hold: tab, line feed, form feed and carriage return. */
const TEXT_CONTROLS = new Set([9, 10, 12, 13]);
/** How much of a file is looked at, and how many odd characters it may hold there and still be a text. */
const PROBE_LENGTH = 100_000;
const ODD_SHARE = 0.01;

/** @throws Problem if the file is empty or no text. */
export async function readTextFile(file: File): Promise<TextSource> {
  if (file.size === 0) throw new Problem(`“${file.name}” is empty. Choose a file that has text in it.`);
  const text = decode(new Uint8Array(await file.arrayBuffer()));
  if (text === undefined || !looksLikeText(text)) {
    throw new Problem(`“${file.name}” does not look like a text file. Choose a plain text, saved as UTF-8.`);
  }
  return {name: file.name, text};
}

/** UTF-8, or UTF-16 where the file begins by saying so; undefined where it is neither. */
function decode(bytes: Uint8Array): string | undefined {
  const utf16 = {'255,254': 'utf-16le', '254,255': 'utf-16be'}[String(bytes.subarray(0, 2))];
  try {
    return new TextDecoder(utf16 ?? 'utf-8', {fatal: true}).decode(bytes);
  } catch {
    return undefined;
  }
}

function looksLikeText(text: string): boolean {
  const probe = text.slice(0, PROBE_LENGTH);
  let odd = 0;
  for (let i = 0; i < probe.length; i++) {
    const code = probe.charCodeAt(i);
    if (code < 32 && !TEXT_CONTROLS.has(code)) odd++;
  }
  return odd <= probe.length * ODD_SHARE;
}

/** A text as a model sees it. */
export class TrainingText {
  private constructor(
    private readonly trained: Int32Array,
    private readonly heldOut: Int32Array,
    private readonly context: number,
  ) {}

  /** @throws Problem if the text is too short for the context. */
  static async from(source: TextSource, tokenizer: TextTokenizer, context: number): Promise<TrainingText> {
    const tokens = await tokenizer.encode(source.text);
    const heldOutLength = Math.max(LEAST_HELD_OUT, Math.floor(tokens.length * HELD_OUT_SHARE));
    const needed = context + 1 + Math.max(LEAST_HELD_OUT, Math.ceil((context + 1) * HELD_OUT_SHARE));
    if (tokens.length < needed) {
      const {unit} = tokenizer;
      throw new Problem(
        `“${source.name}” is too short: it has ${formatCount(tokens.length)} ${unit}s, and a context of ${context} ` +
          `needs at least ${formatCount(needed)}. Choose a longer text or a smaller context.`,
      );
    }
    const end = tokens.length - heldOutLength;
    return new TrainingText(tokens.subarray(0, end), tokens.subarray(end), context);
  }

  /** Stretches from random places, the same for the same step. */
  batch(step: number, size: number): Batch {
    const places = randomIntegers(step, size, this.trained.length - this.context);
    return batchOf(this.trained, places, this.context);
  }

  /** Always the same stretches, of up to the context, in batches of at most `size`. */
  *heldOutBatches(size: number): Generator<Batch> {
    const length = Math.min(this.context, this.heldOut.length - 1);
    const last = this.heldOut.length - 1 - length;
    const most = Math.min(HELD_OUT_STRETCHES, HELD_OUT_BATCHES * size);
    const count = Math.min(most, last + 1, Math.ceil(this.heldOut.length / length));
    const places = Array.from({length: count}, (_, i) => Math.round((i * last) / Math.max(1, count - 1)));
    for (let i = 0; i < count; i += size) yield batchOf(this.heldOut, places.slice(i, i + size), length);
  }
}

function batchOf(tokens: Int32Array, places: number[], length: number): Batch {
  const stack = (offset: number) => {
    const values = new Int32Array(places.length * length);
    for (const [row, place] of places.entries()) {
      values.set(tokens.subarray(place + offset, place + offset + length), row * length);
    }
    return tf.tensor2d(values, [places.length, length], 'int32');
  };
  return {inputs: stack(0), targets: stack(1)};
}
