/** loadGpt2: logits against a float64 GPT-2, what trains, and what it says of checkpoints that do not fit. */
import {Tokenizer} from '@huggingface/tokenizers';
import * as tf from '@tensorflow/tfjs-core';
import type {TestEnv} from '@tensorflow/tfjs-core/dist/jasmine_util';
import {languageModelLoss} from '../../src/index.js';
import {gpt2Files, type LoadGpt2Options, loadGpt2} from '../../src/layers/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {plainGpt2} from './plain_gpt2.js';
import {plainWeightsOf, type TinyTensors, tinyConfig, tinySafetensors, tinyTensors} from './tiny_gpt2.js';
import {tinyMerges, tinyVocab} from './tiny_tokenizer.js';

const {vocab_size: vocabSize, n_positions: contextLength} = tinyConfig;

/** Two sequences. */
const tokensOf = (length: number) =>
  [7, 31].map((factor) => Array.from({length}, (_, place) => (factor * (place + 3) ** 2) % vocabSize));
const TOKENS = tokensOf(6);

const plainLogits = (tensors: TinyTensors, tokens = TOKENS, config = tinyConfig) =>
  tokens.flatMap((sequence) => plainGpt2(config, plainWeightsOf(tensors), sequence).flat());

const load = (tensors: TinyTensors, options?: LoadGpt2Options, config: object = tinyConfig) =>
  loadGpt2({config, weights: tinySafetensors(tensors)}, options);

type Model = ReturnType<typeof loadGpt2>;

async function expectLogits(model: Model, expected: number[], tokens = TOKENS): Promise<void> {
  const logits = model.predict(tf.tensor2d(tokens, undefined, 'int32')) as tf.Tensor;
  expect(logits.shape).toEqual([tokens.length, tokens[0].length, vocabSize]);
  expectWithin('logits', await logits.data(), expected, 1e-4);
}

/** The losses before and after a step of Adam on the tokens. */
async function lossesOfAStep(model: Model): Promise<number[]> {
  const optimizer = tf.train.adam(1e-3);
  model.compile({optimizer, loss: languageModelLoss});
  const [inputs, targets] = [0, 1].map((first) =>
    tf.tensor2d(
      TOKENS.map((sequence) => sequence.slice(first, first + 5)),
      undefined,
      'int32',
    ),
  );
  const losses = [await model.trainOnBatch(inputs, targets), await model.trainOnBatch(inputs, targets)];
  optimizer.dispose();
  return losses as number[];
}

describeOnBackends('loadGpt2', () => {
  it('gives the logits, whatever the element type and with or without a prefix before the names', async () => {
    const tensors = tinyTensors();
    for (const [dtype, prefix] of [
      ['F32', ''],
      ['F16', 'transformer.'],
      ['BF16', ''],
    ]) {
      const model = loadGpt2({config: tinyConfig, weights: tinySafetensors(tensors, {dtype, prefix})});
      await expectLogits(model, plainLogits(tensors));
      model.dispose();
    }
  });

  it('gives the same logits with low-rank additions, which start from zero', async () => {
    const tensors = tinyTensors();
    const model = load(tensors, {loraRank: 2});
    await expectLogits(model, plainLogits(tensors));
    model.dispose();
  });
});

const ON_CPU = {predicate: ({backendName}: TestEnv) => backendName === 'cpu'};

// What is loaded where does not depend on the backend, and `gpt` itself has specs of training on all of them.
describeOnBackends(
  'loadGpt2, on the CPU',
  () => {
    it('gives the logits of one token and of as many as the context holds', async () => {
      const tensors = tinyTensors();
      const model = load(tensors, {attention: 'standard'});
      for (const tokens of [tokensOf(1), tokensOf(contextLength)]) {
        await expectLogits(model, plainLogits(tensors, tokens), tokens);
      }
      model.dispose();
    });

    it('takes n_inner and layer_norm_epsilon from config.json', async () => {
      const config = {...tinyConfig, n_inner: 20, layer_norm_epsilon: 0.1};
      const tensors = tinyTensors({hiddenWidth: 20});
      const model = load(tensors, {}, config);
      await expectLogits(model, plainLogits(tensors, TOKENS, config));
      model.dispose();
    });

    it('gives a head that differs from the embedding a layer of its own', async () => {
      const tensors = tinyTensors({untied: true});
      for (const config of [tinyConfig, {...tinyConfig, tie_word_embeddings: false}]) {
        const model = load(tensors, {}, config);
        await expectLogits(model, plainLogits(tensors));
        model.dispose();
      }
    });

    it('shares the embedding with a head that is a copy of it, unless told to keep them apart', () => {
      const tensors = tinyTensors();
      const withCopy = {...tensors, 'lm_head.weight': tensors['wte.weight']};
      const [tied, copy, apart] = [
        load(tensors),
        load(withCopy),
        load(withCopy, {}, {...tinyConfig, tie_word_embeddings: false}),
      ].map((model) => {
        const count = model.countParams();
        model.dispose();
        return count;
      });
      expect(copy).toBe(tied);
      expect(apart).toBe(tied + vocabSize * tinyConfig.n_embd);
    });

    it('learns by all weights or by low-rank additions alone', async () => {
      const tensors = tinyTensors();
      const full = load(tensors);
      const lora = load(tensors, {loraRank: 2, seed: 1});
      expect(full.trainableWeights.length).toBe(full.weights.length);
      expect(lora.trainableWeights.every(({originalName}) => originalName.includes('/lora_'))).toBeTrue();
      for (const model of [full, lora]) {
        const [before, after] = await lossesOfAStep(model);
        expect(after).toBeLessThan(before);
        model.dispose();
      }
    });

    it('reads text by the files that gpt2Files gets', async () => {
      const tensors = tinyTensors();
      const contents = {
        'config.json': JSON.stringify(tinyConfig),
        'model.safetensors': tinySafetensors(tensors),
        'vocab.json': JSON.stringify(tinyVocab),
        'merges.txt': tinyMerges,
      };
      const files = await gpt2Files(Object.entries(contents).map(([name, content]) => new File([content], name)));
      const {ids} = new Tokenizer(files.tokenizer, files.tokenizerConfig).encode('the word', {
        add_special_tokens: false,
      });
      expect(ids.length).toBe(4);
      const model = loadGpt2(files);
      await expectLogits(model, plainLogits(tensors, [ids]), [ids]);
      model.dispose();
    });
  },
  ON_CPU,
);

describe('loadGpt2 rejects', () => {
  const configs: [change: object, message: RegExp][] = [
    [{model_type: 'gpt_neo'}, /^loadGpt2: config\.model_type must be "gpt2", got "gpt_neo"\.$/],
    [{model_type: undefined}, /config\.model_type must be "gpt2", got undefined/],
    [{activation_function: 'relu'}, /config\.activation_function must be "gelu_new" or .*, got "relu"/],
    [{scale_attn_weights: false}, /config\.scale_attn_weights must be true, got false/],
    [{scale_attn_by_inverse_layer_idx: true}, /config\.scale_attn_by_inverse_layer_idx must be false, got true/],
    [{reorder_and_upcast_attn: true}, /config\.reorder_and_upcast_attn must be false, got true/],
    [{add_cross_attention: true}, /config\.add_cross_attention must be false, got true/],
    [{tie_word_embeddings: 'no'}, /config\.tie_word_embeddings must be true or false, got "no"/],
    [{n_head: 3}, /config\.n_embd must be a multiple of config\.n_head, got 16 and 3/],
    [{n_layer: undefined}, /config\.n_layer must be an integer from 1 on, got undefined/],
    [{n_positions: 0}, /config\.n_positions must be an integer from 1 on, got 0/],
    [{vocab_size: '267'}, /config\.vocab_size must be an integer from 1 on, got "267"/],
    [{n_inner: 1.5}, /config\.n_inner must be an integer from 1 on, got 1\.5/],
    [{layer_norm_epsilon: -1}, /config\.layer_norm_epsilon must be above 0, got -1/],
  ];
  for (const [change, message] of configs) {
    it(`a config.json with ${JSON.stringify(change)}`, () => {
      expect(() => load(tinyTensors(), {}, {...tinyConfig, ...change})).toThrowError(message);
    });
  }

  it('a checkpoint without one of the tensors', () => {
    for (const name of Object.keys(tinyTensors())) {
      const {[name]: left, ...others} = tinyTensors();
      expect(() => load(others)).toThrowError(`loadGpt2: the checkpoint lacks the tensor ${name} [${left.shape}].`);
    }
    expect(() => load(tinyTensors(), {}, {...tinyConfig, tie_word_embeddings: false})).toThrowError(
      `loadGpt2: the checkpoint lacks the tensor lm_head.weight [${vocabSize},16].`,
    );
  });

  it('a checkpoint in which a tensor has another shape', () => {
    const tensors = tinyTensors();
    const transposed = {...tensors, 'h.1.attn.c_attn.weight': {...tensors['h.1.attn.c_attn.weight'], shape: [48, 16]}};
    expect(() => load(transposed)).toThrowError(
      'loadGpt2: by config.json tensor h.1.attn.c_attn.weight must be [16,48], got [48,16].',
    );
    expect(() => load(tensors, {}, {...tinyConfig, vocab_size: 300})).toThrowError(
      `loadGpt2: by config.json tensor wte.weight must be [300,16], got [${vocabSize},16].`,
    );
  });

  it('a checkpoint with more in its blocks than config.json says', () => {
    expect(() => load(tinyTensors(), {}, {...tinyConfig, n_layer: 1})).toThrowError(
      'loadGpt2: the checkpoint has a tensor h.1.ln_1.weight, of which a GPT-2 of its config.json knows nothing.',
    );
  });

  it('options that the checkpoint decides', () => {
    const options = {loraRank: 2, mlp: 'pixelfly'};
    expect(() => load(tinyTensors(), options)).toThrowError(/^loadGpt2: options may be attention, .*, got mlp: /);
  });

  it('files that are cut short', () => {
    const weights = tinySafetensors(tinyTensors());
    expect(() => loadGpt2({config: tinyConfig, weights: weights.slice(0, -1)})).toThrowError(/is cut short/);
  });
});
