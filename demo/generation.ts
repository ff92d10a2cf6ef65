/** Lets a model continue a text, byte by byte. */
import * as tf from '../src/tf.js';
import type {AttentionModel} from './model.js';
import {vocabularySize} from './text_data.js';

export interface GenerationOptions {
  /** What the model continues; at least one byte. */
  prompt: Uint8Array;
  /** Bytes to add. */
  length: number;
  /** Below 1 the likelier bytes become likelier still. */
  temperature: number;
}

/** Yields the prompt and its continuation so far, as text, after every byte. */
export async function* generate(model: AttentionModel, options: GenerationOptions): AsyncGenerator<string> {
  const {prompt, length, temperature} = options;
  const bytes = [...prompt];
  while (bytes.length < prompt.length + length) {
    bytes.push(sample(await nextLogits(model, bytes), temperature));
    // The prompt or the continuation may break off inside a character; the decoder then shows a replacement mark.
    yield new TextDecoder().decode(new Uint8Array(bytes));
  }
}

/** Logits of the byte after `bytes`, of which the model sees the last `context`. */
async function nextLogits(model: AttentionModel, bytes: readonly number[]): Promise<Float32Array> {
  const {context} = model.sizes;
  const seen = bytes.slice(-context);
  const row = tf.tidy(() => {
    // Always a whole context, so that the GPU programs of training serve here too. What stands after the last byte is
    // hidden from it by the causal mask.
    const tokens = new Int32Array(context);
    tokens.set(seen);
    return model.logits(tf.tensor2d(tokens, [1, context], 'int32')).slice([seen.length - 1, 0], [1, vocabularySize]);
  });
  const logits = await row.data<'float32'>();
  row.dispose();
  return logits;
}

function sample(logits: Float32Array, temperature: number): number {
  const max = logits.reduce((a, b) => Math.max(a, b));
  const weights = logits.map((logit) => Math.exp((logit - max) / temperature));
  let rest = Math.random() * weights.reduce((a, b) => a + b);
  const chosen = weights.findIndex((weight) => {
    rest -= weight;
    return rest <= 0;
  });
  // Rounding can leave a rest after the last byte.
  return chosen < 0 ? weights.indexOf(1) : chosen;
}
