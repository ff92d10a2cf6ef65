/** butterflyDense, kaleidoscopeDense and monarchDense: what they compute, how they start, train, save, load and fail. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {butterflyToDense, type ComplexPair, monarchToDense} from '../../src/index.js';
import {type ButterflyDense, butterflyDense, kaleidoscopeDense, monarchDense} from '../../src/layers/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {savedAndLoaded} from './saved_and_loaded.js';

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** Layers of every kind, from 13 inputs to 21 units, which fit no power of two and no number of blocks. */
const makers = {
  butterflyDense: () => butterflyDense({units: 21, blocks: 2, seed: 1, inputShape: [13]}),
  'butterflyDense, complex': () => butterflyDense({units: 21, complex: true, seed: 1, inputShape: [13]}),
  'butterflyDense, expanded': () => butterflyDense({units: 21, expansion: 2, seed: 1, inputShape: [13]}),
  kaleidoscopeDense: () => kaleidoscopeDense({units: 21, width: 2, seed: 1, inputShape: [13]}),
  monarchDense: () => monarchDense({units: 21, blocks: 4, seed: 1, inputShape: [13]}),
  'monarchDense, complex': () => monarchDense({units: 21, blocks: 4, complex: true, seed: 1, inputShape: [13]}),
};

/** The matrix [units, in] of a layer, made of its weights by the ops that are tested by themselves. */
function matrixOf(layer: tfl.layers.Layer): {real: tf.Tensor2D; imag?: tf.Tensor2D} {
  const {increasingStride, complex} = layer.getConfig() as {increasingStride?: boolean; complex: boolean};
  const parts = layer.weights.filter(({name}) => !name.includes('bias')).map((weight) => weight.read());
  const values = complex
    ? parts.flatMap((real, i) => (i % 2 === 0 ? [{real, imag: parts[i + 1]}] : []))
    : (parts as unknown as ComplexPair[]);
  const dense =
    increasingStride === undefined
      ? monarchToDense(values[0], values[1])
      : butterflyToDense(values[0], {increasingStride, inputSize: 13, outputSize: 21});
  const cut = (part: tf.Tensor) => tf.slice(part as tf.Tensor2D, [0, 0], [21, 13]);
  return complex ? {real: cut(dense.real), imag: cut(dense.imag)} : {real: cut(dense as unknown as tf.Tensor)};
}

const complexMakers = {
  butterflyDense: (activation?: 'relu') =>
    butterflyDense({units: 21, blocks: 2, complex: true, seed: 1, ...(activation && {activation})}),
  monarchDense: (activation?: 'relu') =>
    monarchDense({units: 21, blocks: 4, complex: true, seed: 1, ...(activation && {activation})}),
};

/** From both parts of complex numbers [.., 13] to both of [.., 21]. */
function complexModel(layer: tfl.layers.Layer): tfl.LayersModel {
  const inputs = [tfl.input({shape: [13]}), tfl.input({shape: [13]})];
  return tfl.model({inputs, outputs: layer.apply(inputs) as tfl.SymbolicTensor[]});
}

describeOnBackends('A structured dense layer', () => {
  for (const [name, make] of Object.entries(makers)) {
    it(`multiplies by its matrix and adds its bias: ${name}`, async () => {
      const layer = make();
      const model = tfl.sequential({layers: [layer]});
      const bias = layer.weights[layer.weights.length - 1];
      bias.write(normal([21], 2));
      const x = normal([7, 13], 3);
      const y = model.predict(x) as tf.Tensor;
      const expected = tf.add(tf.matMul(x as tf.Tensor2D, matrixOf(layer).real, false, true), bias.read());
      expectWithin('y', await y.data(), await expected.data(), 1e-5);
      model.dispose();
    });

    it(`learns, and is the same after it was saved and loaded: ${name}`, async () => {
      const model = tfl.sequential({layers: [make(), tfl.layers.dense({units: 2})]});
      const optimizer = tf.train.adam(0.02);
      model.compile({optimizer, loss: 'meanSquaredError'});
      const x = normal([32, 13], 4);
      const y = tf.stack([tf.sum(x, 1), tf.mean(tf.square(x), 1)], 1);
      const {history} = await model.fit(x, y, {epochs: 12, batchSize: 32, shuffle: false, verbose: 0});
      const losses = history.loss as number[];
      expect(losses[losses.length - 1]).toBeLessThan(0.7 * losses[0]);
      const loaded = await savedAndLoaded(model);
      const [before, after] = [model, loaded].map((each) => each.predict(x) as tf.Tensor);
      expect(Array.from(await after.data())).toEqual(Array.from(await before.data()));
      for (const each of [model, loaded, optimizer]) each.dispose();
    });
  }

  for (const [name, make] of Object.entries(complexMakers)) {
    it(`takes both parts of complex numbers: ${name}`, async () => {
      const layer = make('relu');
      const model = complexModel(layer);
      const [bias, biasImag] = layer.weights.slice(-2);
      expect([bias.originalName, biasImag.originalName].map((path) => path.split('/')[1])).toEqual([
        'bias',
        'bias_imag',
      ]);
      bias.write(normal([21], 2));
      biasImag.write(normal([21], 3));
      const [real, imag] = [normal([7, 13], 4), normal([7, 13], 5)] as tf.Tensor2D[];
      const outputs = model.predict([real, imag]) as tf.Tensor[];
      const matrix = matrixOf(layer) as {real: tf.Tensor2D; imag: tf.Tensor2D};
      const times = (x: tf.Tensor2D, w: tf.Tensor2D) => tf.matMul(x, w, false, true);
      const expected = [
        tf.relu(tf.add(tf.sub(times(real, matrix.real), times(imag, matrix.imag)), bias.read())),
        tf.relu(tf.add(tf.add(times(real, matrix.imag), times(imag, matrix.real)), biasImag.read())),
      ];
      for (const [part, y] of outputs.entries()) {
        expectWithin(`part ${part}`, await y.data(), await expected[part].data(), 1e-5);
      }
      model.dispose();
    });

    it(`learns of complex numbers, and is the same after it was saved and loaded: ${name}`, async () => {
      const model = complexModel(make());
      const optimizer = tf.train.adam(0.02);
      model.compile({optimizer, loss: 'meanSquaredError'});
      const x = [normal([32, 13], 4), normal([32, 13], 5)];
      // Every output is the sum of the inputs, times i.
      const sums = x.map((part) => tf.mul(tf.sum(part, 1, true), tf.ones([1, 21])));
      const y = [tf.neg(sums[1]), sums[0]];
      const {history} = await model.fit(x, y, {epochs: 12, batchSize: 32, shuffle: false, verbose: 0});
      const losses = history.loss as number[];
      expect(losses[losses.length - 1]).toBeLessThan(0.8 * losses[0]);
      const loaded = await savedAndLoaded(model);
      const [before, after] = [model, loaded].map((each) => each.predict(x) as tf.Tensor[]);
      for (const part of [0, 1]) {
        expect(Array.from(await after[part].data())).toEqual(Array.from(await before[part].data()));
      }
      for (const each of [model, loaded, optimizer]) each.dispose();
    });
  }

  it('starts as an orthogonal matrix, a unitary one, the identity, or a Fourier transform', async () => {
    const matrix = async (layer: ButterflyDense) => {
      const model = tfl.sequential({layers: [layer]});
      const [real, imag] = layer.weights.map((weight) => weight.read());
      const {complex} = layer.getConfig();
      const product = tf.tidy(() => {
        const dense = complex ? butterflyToDense({real, imag}) : {real: butterflyToDense(real), imag: undefined};
        const times = (a: tf.Tensor, b: tf.Tensor) => tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D, false, true);
        const gram = times(dense.real, dense.real);
        return [dense.real, dense.imag ? tf.add(gram, times(dense.imag, dense.imag)) : gram];
      });
      const values = await Promise.all(product.map((t) => t.data()));
      tf.dispose(product);
      model.dispose();
      return values;
    };
    const square = {units: 32, inputShape: [32]};
    const identity = await tf.eye(32).data();
    for (const complex of [false, true]) {
      const [, gram] = await matrix(butterflyDense({...square, complex, kernelInitializer: 'ortho', seed: 5}));
      expectWithin('B·Bᴴ', gram, identity, 1e-5);
      const [same] = await matrix(butterflyDense({...square, complex, kernelInitializer: 'identity', seed: 5}));
      expect(same).toEqual(identity);
    }
    const [fourier, gram] = await matrix(butterflyDense({...square, complex: true, kernelInitializer: 'fft'}));
    expectWithin('F·Fᴴ', gram, identity, 1e-5);
    // Row 0 of the unitary transform is 1/√n throughout, in whatever order its input comes.
    expectWithin('row 0', fourier.slice(0, 32), new Float32Array(32).fill(1 / Math.sqrt(32)), 1e-6);
  });

  it('starts with the variance of a dense kernel from U(±1/√in): monarchDense', async () => {
    for (const complex of [false, true]) {
      const model = tfl.sequential({layers: [monarchDense({units: 256, complex, seed: 6, inputShape: [256]})]});
      const y = model.predict(normal([200, 256], 7)) as tf.Tensor;
      const [variance] = await tf.moments(y).variance.data();
      // Of complex numbers one part is seen.
      expect(Math.abs((complex ? 6 : 3) * variance - 1)).toBeLessThan(0.15);
      model.dispose();
    }
  });

  it('becomes the Monarch layer nearest to a dense one', async () => {
    const dense = tfl.layers.dense({units: 21, activation: 'relu', inputShape: [13]});
    const model = tfl.sequential({layers: [dense]});
    const monarch = tfl.sequential({layers: [await monarchDense.fromDense(dense, {blocks: 1})]});
    // One block is no restriction.
    const x = normal([5, 13], 8);
    expectWithin(
      'y',
      await (monarch.predict(x) as tf.Tensor).data(),
      await (model.predict(x) as tf.Tensor).data(),
      1e-4,
    );
    for (const each of [model, monarch]) each.dispose();
  });

  it('says what is wrong with its arguments', async () => {
    expect(() => butterflyDense({units: 0})).toThrowError('butterflyDense: units must be an integer from 1 on, got 0.');
    expect(() => butterflyDense({units: 4, blocks: 0})).toThrowError(
      'butterflyDense: blocks must be an integer from 1 on, got 0.',
    );
    expect(() => butterflyDense({units: 4, expansion: 3})).toThrowError(
      'butterflyDense: expansion must be a power of two from 1 on, got 3.',
    );
    expect(() => butterflyDense({units: 4, kernelInitializer: 'zeros' as 'randn'})).toThrowError(
      "butterflyDense: kernelInitializer must be one of randn, ortho, identity, fft, got 'zeros'.",
    );
    expect(() => butterflyDense({units: 4, kernelInitializer: 'fft'})).toThrowError(
      "butterflyDense: kernelInitializer 'fft' needs complex, one block and increasing strides.",
    );
    expect(() => kaleidoscopeDense({units: 4, width: 0})).toThrowError(
      'kaleidoscopeDense: width must be an integer from 1 on, got 0.',
    );
    expect(() => monarchDense({units: 4, blocks: 1.5})).toThrowError(
      'monarchDense: blocks must be an integer from 1 on, got 1.5.',
    );
    expect(() => monarchDense({units: 4, complex: true}).apply([tf.ones([2, 3]), tf.ones([2, 4])])).toThrowError(
      'monarchDense: the input must be one tensor, or real and imaginary parts of one shape, got [2,3], [2,4].',
    );
    await expectAsync(monarchDense.fromDense(tfl.layers.dense({units: 4, name: 'bare'}))).toBeRejectedWithError(
      'monarchDense.fromDense: layer bare has no kernel; build it first.',
    );
  });
});
