/** Text as the model sees it: bytes, checked to be text at all, and cut into random windows for training. */
import * as tf from '../src/tf.js';

/** Tokens are bytes, so that any file and any language works without a vocabulary of its own. */
export const vocabularySize = 256;

/** What a person can do something about; its message is a plain sentence for the page. */
export class TextProblem extends Error {}

export interface Text {
  name: string;
  bytes: Uint8Array;
}

/** Inputs and targets of one training step, both int32 [batch, context]; the targets are one byte ahead. */
export interface Batch {
  tokens: tf.Tensor2D;
  targets: tf.Tensor2D;
}

/** Control characters that a text may hold: tab, line feed, form feed and carriage return. */
const textControls = new Set([9, 10, 12, 13]);
/** How much of a file is looked at, and how many odd bytes it may hold there and still be a text. */
const probeLength = 100_000;
const oddShare = 0.01;

export async function readText(file: File): Promise<Text> {
  const text = {name: file.name, bytes: new Uint8Array(await file.arrayBuffer())};
  if (!looksLikeText(text.bytes)) {
    throw new TextProblem(`“${file.name}” does not look like a text file. Choose a plain text, saved as UTF-8.`);
  }
  return text;
}

/** Throws where the text is too short to cut a window and its target from it. */
export function requireLength(text: Text, context: number): void {
  const needed = context + 1;
  if (text.bytes.length >= needed) return;
  throw new TextProblem(
    `“${text.name}” is too short: it has ${text.bytes.length} bytes, and a context of ${context} needs at least ${needed}.`,
  );
}

/** Windows that begin at random places of the text. */
export function randomBatch({bytes}: Text, batch: number, context: number): Batch {
  const tokens = new Int32Array(batch * context);
  const targets = new Int32Array(batch * context);
  for (let row = 0; row < batch; row++) {
    const start = Math.floor(Math.random() * (bytes.length - context));
    tokens.set(bytes.subarray(start, start + context), row * context);
    targets.set(bytes.subarray(start + 1, start + context + 1), row * context);
  }
  return {
    tokens: tf.tensor2d(tokens, [batch, context], 'int32'),
    targets: tf.tensor2d(targets, [batch, context], 'int32'),
  };
}

function looksLikeText(bytes: Uint8Array): boolean {
  const probe = bytes.subarray(0, probeLength);
  const odd = probe.reduce((count, byte) => count + (byte < 32 && !textControls.has(byte) ? 1 : 0), 0);
  return odd <= probe.length * oddShare;
}
