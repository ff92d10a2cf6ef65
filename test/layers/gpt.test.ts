/** The layers of a language model, and the model: what they compute, how they train, save, load and fail. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {gelu, languageModelLoss} from '../../src/index.js';
import {
  flashMultiHeadAttention,
  fusedLayerNorm,
  type GptArgs,
  gpt,
  positionEmbedding,
  type TransformerBlockArgs,
  tokenEmbedding,
  transformerBlock,
} from '../../src/layers/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {savedAndLoaded} from './saved_and_loaded.js';

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

const VOCAB_SIZE = 11;
const small: GptArgs = {layers: 2, heads: 2, width: 16, contextLength: 16, vocabSize: VOCAB_SIZE, seed: 1};

/** Texts that go on counting, so that there is something to learn, and what follows each token. */
function countingTexts(batch: number, length: number): {inputs: tf.Tensor2D; targets: tf.Tensor2D} {
  const place = (shift: number) =>
    tf.tensor2d(
      Array.from({length: batch}, (_, b) => Array.from({length}, (_, i) => (3 * b + i + shift) % VOCAB_SIZE)),
      [batch, length],
      'int32',
    );
  return {inputs: place(0), targets: place(1)};
}

async function logitsOf(model: tfl.LayersModel, tokens: tf.Tensor): Promise<Float32Array> {
  return (await (model.predict(tokens) as tf.Tensor).data()) as Float32Array;
}

const ofLayer = (weight: tfl.LayerVariable) => weight.originalName.slice(weight.originalName.indexOf('/') + 1);

/** Replaces all weights by random ones, those that start from 0 or 1 too. */
function randomize(layer: tfl.layers.Layer): void {
  tf.tidy(() => layer.setWeights(layer.weights.map(({shape}, i) => tf.mul(normal(shape as number[], i + 1), 0.3))));
}

describeOnBackends('Layers of a language model', () => {
  it('fusedLayerNorm is the layer of tfjs, with its gradients', async () => {
    const x = tf.add(normal([2, 3, 8], 1), 2);
    const weights = normal([2, 3, 8], 2);
    const results: Float32Array[][] = [];
    for (const layer of [fusedLayerNorm({epsilon: 1e-3}), tfl.layers.layerNormalization()]) {
      const y = layer.apply(x) as tf.Tensor;
      randomize(layer);
      const variables = layer.trainableWeights.map((weight) => weight.read() as tf.Variable);
      expect(layer.trainableWeights.map(ofLayer)).toEqual(['gamma', 'beta']);
      const input = tf.variable(x);
      const loss = () => tf.sum(tf.mul(layer.apply(input) as tf.Tensor, weights)) as tf.Scalar;
      const {grads} = tf.variableGrads(loss, [input, ...variables]);
      const of = [layer.apply(x) as tf.Tensor, ...[input, ...variables].map(({name}) => grads[name])];
      results.push(await Promise.all(of.map((t) => t.data<'float32'>())));
      tf.dispose([y, input]);
      layer.dispose();
    }
    for (const [i, result] of results[0].entries()) expectWithin(`result ${i}`, result, results[1][i], 1e-5);
  });

  it('tokenEmbedding gives rows, and products with all rows, and adds up the gradients of both', async () => {
    const layer = tokenEmbedding({vocabSize: 7, width: 4, embeddingsInitializer: tfl.initializers.ones()});
    const tokens = tf.tensor2d([0, 3, 3, 6, 1, 0], [2, 3], 'int32');
    layer.apply(tokens);
    const table = normal([7, 4], 1) as tf.Tensor2D;
    layer.setWeights([table]);
    const variable = layer.weights[0].read() as tf.Variable;
    const hot = tf.oneHot(tf.reshape(tokens, [6]) as tf.Tensor1D, 7, 1, 0, 'float32') as tf.Tensor2D;
    const rows = (t: tf.Tensor) => tf.matMul(hot, t as tf.Tensor2D);
    const scores = (t: tf.Tensor) => tf.reshape(tf.matMul(rows(t), t as tf.Tensor2D, false, true), [2, 3, 7]);
    const embedded = layer.apply(tokens) as tf.Tensor;
    expectWithin('rows', await embedded.data(), await rows(table).data(), 1e-6);
    const logits = layer.apply(embedded) as tf.Tensor;
    expect(logits.shape).toEqual([2, 3, 7]);
    expectWithin('logits', await logits.data(), await scores(table).data(), 1e-5);
    const weights = normal([2, 3, 7], 2);
    const loss = () => tf.sum(tf.mul(layer.apply(layer.apply(tokens)) as tf.Tensor, weights)) as tf.Scalar;
    const {grads} = tf.variableGrads(loss, [variable]);
    const expected = tf.grad((t) => tf.sum(tf.mul(scores(t), weights)))(table);
    expectWithin('gradient', await grads[variable.name].data(), await expected.data(), 1e-5);
    layer.dispose();
  });

  it('transformerBlock is the sum of its layers, and has their weights by name', async () => {
    const block = transformerBlock({numHeads: 2, inputShape: [6, 16], name: 'block'});
    const model = tfl.sequential({layers: [block]});
    randomize(block);
    const layers = {
      attention_norm: fusedLayerNorm(),
      attention: flashMultiHeadAttention({numHeads: 2, keyDim: 8, causal: true}),
      mlp_norm: fusedLayerNorm(),
      mlp_in: tfl.layers.dense({units: 64}),
      mlp_out: tfl.layers.dense({units: 16}),
    };
    const forward = (x: tf.Tensor) => {
      const apply = (name: keyof typeof layers, y: tf.Tensor) => layers[name].apply(y) as tf.Tensor;
      const attended = tf.add(x, apply('attention', apply('attention_norm', x)));
      const widened = gelu(apply('mlp_in', apply('mlp_norm', attended)), {approximate: true});
      return tf.add(attended, apply('mlp_out', widened));
    };
    const x = normal([2, 6, 16], 3);
    forward(x);
    for (const [name, layer] of Object.entries(layers)) {
      for (const weight of layer.weights) {
        const path = `block/${name}/${ofLayer(weight)}`;
        const same = block.weights.find(({originalName}) => originalName === path);
        weight.write(same?.read() as tf.Tensor);
      }
    }
    expect(block.countParams()).toBe(2 * 2 * 16 + 4 * (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16));
    expectWithin('y', await (model.predict(x) as tf.Tensor).data(), await forward(x).data(), 1e-5);
    for (const layer of [...Object.values(layers), model]) layer.dispose();
  });

  it('gpt learns by fit, gives the same after it was saved and loaded, and goes on learning', async () => {
    const model = gpt(small);
    const {inputs, targets} = countingTexts(4, 12);
    const optimizer = tf.train.adam(0.02);
    model.compile({optimizer, loss: languageModelLoss});
    const {history} = await model.fit(inputs, targets, {epochs: 6, verbose: 0});
    expect(Math.abs((history.loss[0] as number) - Math.log(VOCAB_SIZE))).toBeLessThan(0.1);
    expect(history.loss[5]).toBeLessThan(0.9 * (history.loss[0] as number));
    const loaded = await savedAndLoaded(model);
    expect(Array.from(await logitsOf(loaded, inputs))).toEqual(Array.from(await logitsOf(model, inputs)));
    loaded.compile({optimizer, loss: languageModelLoss});
    const [before, after] = [model, loaded].map((each) => each.evaluate(inputs, targets, {verbose: 0}) as tf.Scalar);
    expect(Array.from(await after.data())).toEqual(Array.from(await before.data()));
    for (const each of [model, loaded, optimizer]) each.dispose();
  });
});

describeOnBackends(
  'Layers of a language model, on the CPU',
  () => {
    it('positionEmbedding adds the vectors of places from an offset on', async () => {
      const layer = positionEmbedding({contextLength: 5, embeddingsInitializer: tfl.initializers.ones()});
      const x = normal([2, 3, 4], 1);
      layer.apply(x);
      const table = normal([5, 4], 2);
      layer.setWeights([table]);
      const expected = (offset: number) => tf.add(x, tf.slice(table, [offset, 0], [3, 4]));
      expectWithin('at 0', await (layer.apply(x) as tf.Tensor).data(), await expected(0).data(), 1e-6);
      expectWithin('at 2', await layer.callAt(x, 2).data(), await expected(2).data(), 1e-6);
      expect(() => layer.callAt(x, 3)).toThrowError(
        'positionEmbedding: contextLength is 5, got an input of 3 places from 3 on.',
      );
      layer.dispose();
    });

    const blocks: Record<string, Partial<TransformerBlockArgs>> = {
      pixelfly: {
        mlp: 'pixelfly',
        mlpOptions: {density: 0.6, blockSize: 4, kernelRegularizer: tfl.regularizers.l2({l2: 1e-3})},
      },
      monarch: {mlp: 'monarch', mlpOptions: {blocks: 2}},
      'grouped heads, rotary, sparse': {
        numHeads: 4,
        numKvHeads: 2,
        rotary: true,
        attentionPrecision: 'fast',
        attentionLayout: {pattern: 'slidingWindow', blockSize: 2, window: [2, 0]},
      },
    };
    for (const [name, args] of Object.entries(blocks)) {
      it(`transformerBlock trains, saves, loads and goes on from a cache: ${name}`, async () => {
        const block = transformerBlock({numHeads: 2, seed: 1, activation: 'relu', ...args, inputShape: [8, 16]});
        const model = tfl.sequential({layers: [block]});
        const optimizer = tf.train.adam(0.01);
        model.compile({optimizer, loss: 'meanSquaredError'});
        const [x, y] = [normal([4, 8, 16], 2), normal([4, 8, 16], 3)];
        const {history} = await model.fit(x, y, {epochs: 3, verbose: 0});
        expect(history.loss[2]).toBeLessThan(history.loss[0] as number);
        expect(block.losses.length).toBe(name === 'pixelfly' ? 6 : 0);
        const loaded = await savedAndLoaded(model);
        const before = await logitsOf(model, x);
        expect(Array.from(await logitsOf(loaded, x))).toEqual(Array.from(before));
        const cache = block.createCache(4, 8);
        const parts = [
          [0, 5],
          [5, 1],
          [6, 2],
        ].map(([from, count]) => block.callWithCache(tf.slice(x, [0, from, 0], [-1, count, -1]) as tf.Tensor3D, cache));
        expectWithin('with a cache', await tf.concat(parts, 1).data(), before, 1e-5);
        cache.dispose();
        for (const each of [model, loaded, optimizer]) each.dispose();
      });
    }

    it('trains only the additions with loraRank, and starts as it was', async () => {
      const args = {...small, layers: 1};
      const [base, tuned] = [gpt(args), gpt({...args, loraRank: 2})];
      const {inputs, targets} = countingTexts(2, 8);
      const names = new Map(base.weights.map((weight) => [weight.originalName, weight.read()]));
      for (const weight of tuned.weights) {
        const same = names.get(weight.originalName);
        if (same) weight.write(same);
      }
      expectWithin('logits', await logitsOf(tuned, inputs), await logitsOf(base, inputs), 1e-6);
      expect(tuned.trainableWeights.every(({name}) => name.includes('lora_'))).toBeTrue();
      expect(tuned.trainableWeights.length).toBe(8);
      const valuesOf = (layer: tfl.layers.Layer) => Promise.all(layer.weights.map((weight) => weight.read().data()));
      const before = await valuesOf(tuned.getLayer('block_0'));
      const optimizer = tf.train.adam(0.01);
      // Without a list of variables an optimizer takes all that are trainable, which the other model's are too.
      base.dispose();
      optimizer.minimize(() => languageModelLoss(targets, tuned.apply(inputs, {training: true}) as tf.Tensor));
      const after = await valuesOf(tuned.getLayer('block_0'));
      for (const [i, {name}] of tuned.getLayer('block_0').weights.entries()) {
        if (!name.includes('lora_')) expect(after[i]).withContext(name).toEqual(before[i]);
        // A stays as it is in the first step, because B is 0.
        if (name.includes('lora_b')) expect(after[i]).withContext(name).not.toEqual(before[i]);
      }
      const block = tuned.getLayer('block_0') as ReturnType<typeof transformerBlock>;
      const logits = await logitsOf(tuned, inputs);
      const loaded = await savedAndLoaded(tuned);
      expect(Array.from(await logitsOf(loaded, inputs))).toEqual(Array.from(logits));
      expect(loaded.trainableWeights.length).toBe(8);
      block.mergeLora();
      expectWithin('merged', await logitsOf(tuned, inputs), logits, 1e-5);
      expect(block.trainableWeights.length).toBe(16);
      for (const each of [tuned, loaded, optimizer]) each.dispose();
    });

    it('gpt has the parameters of GPT-2, and its first weights', async () => {
      const model = gpt({...small, width: 32});
      const ofBlock = 12 * 32 ** 2 + 13 * 32;
      expect(model.countParams()).toBe((VOCAB_SIZE + 16) * 32 + 2 * ofBlock + 2 * 32);
      const deviation = (name: string) => {
        const weight = model.weights.find(({originalName}) => originalName === name) as tfl.LayerVariable;
        return Math.sqrt(tf.mean(tf.square(weight.read())).dataSync()[0]);
      };
      for (const [name, expected] of [
        ['token_embedding/embeddings', 0.02],
        ['block_1/attention/value/kernel', 0.02],
        ['block_1/mlp_in/kernel', 0.02],
        ['block_1/attention/attention_output/kernel', 0.01],
        ['block_1/mlp_out/kernel', 0.01],
      ] as const) {
        expect(Math.abs(deviation(name) / expected - 1))
          .withContext(name)
          .toBeLessThan(0.15);
      }
      const [query, key] = ['query', 'key'].map((name) =>
        model.weights
          .find((weight) => weight.originalName === `block_0/attention/${name}/kernel`)
          ?.read()
          .dataSync(),
      );
      expect(query).not.toEqual(key);
      model.dispose();
    });

    it('gpt learns step by step, with attention of either kind, which give the same', async () => {
      const {inputs, targets} = countingTexts(2, 12);
      const lossesWith = async (attention: 'flash' | 'standard') => {
        const model = gpt({...small, attention, position: 'rotary', tied: false, layers: 1});
        const optimizer = tf.train.adam(0.02);
        const loss = () => languageModelLoss(targets, model.apply(inputs, {training: true}) as tf.Tensor);
        const ofSteps = [1, 2, 3].map(() => optimizer.minimize(loss, true) as tf.Scalar);
        for (const each of [model, optimizer]) each.dispose();
        return tf.stack(ofSteps).data();
      };
      const [flash, standard] = [await lossesWith('flash'), await lossesWith('standard')];
      expectWithin('losses', flash, standard, 1e-4);
      expect(flash[2]).toBeLessThan(flash[0]);
    });

    it('drops out only in training', () => {
      const model = gpt({...small, layers: 1, dropout: 0.5});
      const {inputs} = countingTexts(1, 4);
      const logits = (training: boolean) => String((model.apply(inputs, {training}) as tf.Tensor).dataSync());
      expect(logits(false)).toBe(logits(false));
      expect(logits(true)).not.toBe(logits(true));
      model.dispose();
    });

    it('says what is wrong with its arguments', () => {
      expect(() => gpt({...small, layers: 0})).toThrowError('gpt: layers must be an integer from 1 on, got 0.');
      expect(() => gpt({...small, heads: 3})).toThrowError('gpt: width must be a multiple of heads, got 16 and 3.');
      expect(() => gpt({...small, position: 'none' as 'rotary'})).toThrowError(
        "gpt: position must be 'learned' or 'rotary', got 'none'.",
      );
      expect(() => transformerBlock({numHeads: 2, mlp: 'sparse' as 'dense'})).toThrowError(
        "transformerBlock: mlp must be one of dense, pixelfly, monarch, got 'sparse'.",
      );
      expect(() => transformerBlock({numHeads: 0})).toThrowError(
        'transformerBlock: numHeads must be an integer from 1 on, got 0.',
      );
      expect(() => transformerBlock({numHeads: 2, dropout: 1})).toThrowError(
        'transformerBlock: dropout must be at least 0 and below 1, got 1.',
      );
      expect(() => transformerBlock({numHeads: 3}).apply(tf.zeros([1, 2, 16]))).toThrowError(
        "transformerBlock: numHeads must divide the input's last axis, got 3 for 16.",
      );
      expect(() => tokenEmbedding({vocabSize: 1.5, width: 2})).toThrowError(
        'tokenEmbedding: vocabSize must be an integer from 1 on, got 1.5.',
      );
      expect(() => fusedLayerNorm({epsilon: 0})).toThrowError('fusedLayerNorm: epsilon must be above 0, got 0.');
      const model = gpt({...small, position: 'rotary', layers: 1});
      expect(() => model.predict(tf.zeros([1, 17], 'int32'))).toThrowError(
        'transformerBlock: contextLength is 16, got 17 tokens.',
      );
      model.dispose();
    });
  },
  {predicate: ({backendName}) => backendName === 'cpu'},
);
