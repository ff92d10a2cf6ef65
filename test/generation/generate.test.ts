/** Generation with key/value caches: against full recomputation, its choices, limits, ends and errors. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {sampleToken} from '../../src/index.js';
import {type GptArgs, generate, generateTokens, gpt, type LanguageModel} from '../../src/layers/index.js';
import {describeOnBackends} from '../backends.js';

const small: GptArgs = {layers: 2, heads: 2, width: 16, contextLength: 16, vocabSize: 23, seed: 3};
const prompt = [3, 1, 4, 1, 5];

/** With larger weights than those of a start, so that logits differ and hang on all tokens. */
function makeModel(args: Partial<GptArgs> = {}): LanguageModel {
  const model = gpt({...small, ...args});
  tf.tidy(() => {
    for (const [i, weight] of model.weights.entries()) {
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.5, 'float32', i + 1));
    }
  });
  return model;
}

/** Greedy tokens, each from the logits of the whole context, by the documented rule for full contexts. */
async function recomputed(model: LanguageModel, start: number[], count: number, contextLength: number) {
  let text = start.slice(-contextLength);
  const tokens: number[] = [];
  while (tokens.length < count) {
    if (text.length > contextLength) text = text.slice(-contextLength / 2);
    const logits = model.predict(tf.tensor2d([text], [1, text.length], 'int32')) as tf.Tensor;
    const last = tf.slice(logits, [0, text.length - 1, 0], [1, 1, -1]);
    const token = sampleToken((await last.data()) as Float32Array, {temperature: 0});
    tf.dispose([logits, last]);
    text.push(token);
    tokens.push(token);
  }
  return tokens;
}

describeOnBackends('generate', () => {
  it('with caches gives the tokens of full recomputation, also past the context', async () => {
    // Few lengths, because a GPU compiles programs for each of them.
    const model = makeModel({numKvHeads: 1, contextLength: 4});
    const tokens = await generate(model, prompt.slice(0, 3), {maxTokens: 5, temperature: 0});
    expect(tokens).toEqual(await recomputed(model, prompt.slice(0, 3), 5, 4));
    expect(new Set(tokens).size).toBeGreaterThan(1);
    model.dispose();
  });
});

describeOnBackends(
  'generate, on the CPU',
  () => {
    for (const args of [
      {position: 'rotary', tied: false},
      {mlp: 'monarch', attention: 'standard'},
    ] as const) {
      it(`with caches gives the tokens of full recomputation: ${Object.values(args)}`, async () => {
        const model = makeModel(args);
        const long = Int32Array.from({length: 20}, (_, i) => i);
        const tokens = await generate(model, long, {maxTokens: 20, temperature: 0});
        expect(tokens).toEqual(await recomputed(model, Array.from(long), 20, 16));
        model.dispose();
      });
    }

    it('draws the same tokens with the same seed', async () => {
      const model = makeModel();
      const drawn = (seed: number) => generate(model, prompt, {maxTokens: 8, topK: 10, topP: 0.9, seed});
      expect(await drawn(1)).toEqual(await drawn(1));
      expect(await drawn(1)).not.toEqual(await drawn(2));
      model.dispose();
    });

    it('tells each token, and ends before a stop token', async () => {
      const model = makeModel();
      const all = await generate(model, prompt, {maxTokens: 8, temperature: 0});
      const end = all[all.length - 1];
      const told: number[] = [];
      const onToken = (token: number) => void told.push(token);
      const tokens = await generate(model, prompt, {maxTokens: 8, temperature: 0, stop: [end], onToken});
      expect(tokens).toEqual(all.slice(0, all.indexOf(end)));
      expect(told).toEqual(tokens);
      model.dispose();
    });

    it('ends when it is aborted or its loop is left, and frees all', async () => {
      const model = makeModel();
      const before = tf.memory().numTensors;
      const controller = new AbortController();
      const reason = new Error('enough');
      let count = 0;
      const onToken = () => {
        if (++count === 2) controller.abort(reason);
      };
      await expectAsync(generate(model, prompt, {signal: controller.signal, onToken})).toBeRejectedWith(reason);
      expect(count).toBe(2);
      for await (const token of generateTokens(model, prompt)) {
        expect(token).toBeLessThan(23);
        break;
      }
      await expectAsync(generate(model, prompt, {topP: 2})).toBeRejectedWithError(/sampleToken: topP/);
      const failing = () => {
        throw reason;
      };
      await expectAsync(generate(model, prompt, {onToken: failing})).toBeRejectedWith(reason);
      expect(tf.memory().numTensors).toBe(before);
      model.dispose();
    });

    it('lets the page have its turn', async () => {
      const model = makeModel();
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      const slow = () => {
        const end = performance.now() + 5;
        while (performance.now() < end) {}
      };
      await generate(model, prompt, {maxTokens: 20, onToken: slow});
      clearInterval(timer);
      expect(turns).toBeGreaterThan(0);
      model.dispose();
    });

    it('says what is wrong with its arguments', async () => {
      const model = makeModel();
      const rejected = (args: Parameters<typeof generate>, message: string) =>
        expectAsync(generate(...args)).toBeRejectedWithError(message);
      await rejected([model, []], 'generate: prompt must hold tokens from 0 to 22, at least one, got none.');
      await rejected([model, [1, 23]], 'generate: prompt must hold tokens from 0 to 22, at least one, got 23.');
      await rejected([model, [1], {maxTokens: -1}], 'generate: maxTokens must be an integer from 0 on, got -1.');
      const other = tfl.sequential({layers: [tfl.layers.dense({units: 1, inputShape: [2], name: 'only'})]});
      await rejected([other, [1]], 'generate: model must be a chain of layers like those of gpt, got only.');
      for (const each of [model, other]) each.dispose();
    });
  },
  {predicate: ({backendName}) => backendName === 'cpu'},
);
