/** The functions `generate` and `generateTokens`: text of a language model, token by token. */
import type {LayersModel} from '@tensorflow/tfjs-layers';
import {CachedModel} from './cached_model.js';
import {nextTask} from './next_task.js';
import {randomOf} from './random.js';
import {type SampleTokenOptions, sampleToken} from './sampling.js';

/** Options of {@link generateTokens}; see `sampleToken` for `temperature`, `topK` and `topP`. */
export interface GenerateTokensOptions extends Omit<SampleTokenOptions, 'random'> {
  /** The most tokens to generate. Default 100. */
  maxTokens?: number;
  /** Makes the choice of tokens the same every time. */
  seed?: number;
  /** A token, or several, at which the text ends; it is not part of the result. */
  stop?: number | number[];
  /** Ends the generation with an error, its reason, when it is aborted. */
  signal?: AbortSignal;
}

/** Options of {@link generate}. */
export interface GenerateOptions extends GenerateTokensOptions {
  /** Called with each token as soon as it is there; where it returns a promise, the next token waits for that. */
  onToken?: (token: number) => void | Promise<void>;
}

/** Milliseconds after which the page gets its turn. */
const TURN = 16;

/**
 * The tokens that a language model writes after a prompt, as an async iterator; a loop that is left ends the generation.
 * The prompt goes through the model in one call, and then each token in one, with the keys and values of those before in a
 * `KeyValueCache` for each block. Per token one row of logits is read from the GPU.
 *
 * The model sees at most contextLength tokens. Of a longer prompt it sees the last ones; when the context is full, the
 * oldest half is dropped, and the rest goes through the model again, because it stands at other places then.
 *
 * ```js
 * const model = tf.gpt({layers: 1, heads: 2, width: 8, contextLength: 16, vocabSize: 10});
 * const tokens = [];
 * for await (const token of tf.generateTokens(model, [1, 2, 3], {maxTokens: 20, topK: 3})) tokens.push(token);
 * console.log(tokens.length); // [20]
 * model.dispose();
 * ```
 *
 * @param model what `gpt` makes, or `tf.loadLayersModel` of it.
 * @param prompt at least one token, an integer in [0, V).
 * @param options see {@link GenerateTokensOptions}.
 * @throws Error that names the argument; the signal's reason if it is aborted.
 */
export async function* generateTokens(
  model: LayersModel,
  prompt: ArrayLike<number>,
  options: GenerateTokensOptions = {},
): AsyncGenerator<number, void, undefined> {
  const {maxTokens = 100, seed, stop = [], signal, ...sampling} = options;
  if (!Number.isInteger(maxTokens) || maxTokens < 0) {
    throw new Error(`generate: maxTokens must be an integer from 0 on, got ${maxTokens}.`);
  }
  const random = randomOf(seed);
  const ends = new Set([stop].flat());
  const cached = new CachedModel(model);
  try {
    let text = checkedPrompt(prompt, cached.vocabSize).slice(-cached.contextLength);
    let turnEnds = performance.now() + TURN;
    for (let count = 0; count < maxTokens; count++) {
      signal?.throwIfAborted();
      if (text.length > cached.contextLength) {
        text = text.slice(-Math.ceil(cached.contextLength / 2));
        cached.restart();
      }
      const logits = cached.append(text.slice(cached.length));
      const values = await logits.data<'float32'>().finally(() => logits.dispose());
      const token = sampleToken(values, {...sampling, random});
      if (ends.has(token)) return;
      signal?.throwIfAborted();
      yield token;
      text.push(token);
      if (performance.now() > turnEnds) {
        await nextTask();
        turnEnds = performance.now() + TURN;
      }
    }
  } finally {
    cached.dispose();
  }
}

/**
 * {@link generateTokens} that resolves to all tokens at once.
 *
 * ```js
 * const model = tf.gpt({layers: 1, heads: 2, width: 8, contextLength: 16, vocabSize: 10});
 * const tokens = await tf.generate(model, [1, 2, 3], {maxTokens: 5, temperature: 0, onToken: (token) => console.log(token)});
 * console.log(tokens.length);
 * model.dispose();
 * ```
 *
 * @param model what `gpt` makes, or `tf.loadLayersModel` of it.
 * @param prompt at least one token, an integer in [0, V).
 * @param options see {@link GenerateOptions}.
 * @returns the tokens after the prompt.
 * @throws Error that names the argument; the signal's reason if it is aborted.
 */
export async function generate(
  model: LayersModel,
  prompt: ArrayLike<number>,
  {onToken, ...options}: GenerateOptions = {},
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const token of generateTokens(model, prompt, options)) {
    tokens.push(token);
    await onToken?.(token);
  }
  return tokens;
}

function checkedPrompt(prompt: ArrayLike<number>, vocabSize: number): number[] {
  const tokens = Array.from(prompt);
  const wrong = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize);
  if (wrong !== undefined || tokens.length === 0) {
    const got = tokens.length === 0 ? 'none' : wrong;
    throw new Error(`generate: prompt must hold tokens from 0 to ${vocabSize - 1}, at least one, got ${got}.`);
  }
  return tokens;
}
