/** Lets a model continue a text, and shows that as it grows. */
import * as tf from '../src/tf.js';
import type {TextTokenizer} from './tokenizer.js';

export interface WritingOptions {
  prompt: string;
  /** The most tokens to add. */
  maxTokens: number;
  /** Time after which it ends, counted from the first token, before which GPU programs are compiled. */
  seconds?: number;
  signal?: AbortSignal;
}

/** Below 1 the likelier tokens become likelier still. */
const TEMPERATURE = 0.8;
const SEED = 1;

/**
 * Yields the prompt and its continuation so far after every token. The choice of tokens is the same every time, so that
 * two texts of the same prompt differ by what the model has learnt.
 */
export async function* writeText(
  model: tf.LayersModel,
  tokenizer: TextTokenizer,
  {prompt, maxTokens, seconds = Number.POSITIVE_INFINITY, signal}: WritingOptions,
): AsyncGenerator<string> {
  const start = await tokenizer.encode(prompt || '\n');
  const tokens = Array.from(start);
  let end = Number.POSITIVE_INFINITY;
  try {
    for await (const token of tf.generateTokens(model, start, {
      maxTokens,
      temperature: TEMPERATURE,
      seed: SEED,
      signal,
    })) {
      if (tokens.length === start.length) end = performance.now() + seconds * 1000;
      tokens.push(token);
      yield tokenizer.decode(tokens);
      if (performance.now() > end) return;
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
}
