/** butterflyDense, kaleidoscopeDense and monarchDense: what they compute, how they start, train, save, load and fail. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {butterflyToDense, monarchToDense} from '../../src/index.js';
import {type ButterflyDense, butterflyDense, kaleidoscopeDense, monarchDense} from '../../src/layers/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** Layers of every kind, from 13 inputs to 21 units, which fit no power of two and no number of blocks. */
const makers = {
  butterflyDense: () => butterflyDense({units: 21, blocks: 2, seed: 1, inputShape: [13]}),
  'butterflyDense, complex': () => butterflyDense({units: 21, complex: true, seed: 1, inputShape: [13]}),
  'butterflyDense, expanded': () => butterflyDense({units: 21, expansion: 2, seed: 1, inputShape: [13]}),
  kaleidoscopeDense: () => kaleidoscopeDense({units: 21, width: 2, seed: 1, inputShape: [13]}),
  monarchDense: () => monarchDense({units: 21, blocks: 4, seed: 1, inputShape: [13]}),
};

/** The matrix [units, in] of a layer, made of its weights by the ops that are tested by themselves. */
function matrixOf(layer: tfl.layers.Layer): tf.Tensor2D {
  const [first, second] = layer.weights.map((weight) => weight.read());
  const {increasingStride, complex} = layer.getConfig() as {increasingStride?: boolean; complex?: boolean};
  if (increasingStride === undefined) {
    return tf.slice(monarchToDense(first, second) as tf.Tensor2D, [0, 0], [21, 13]);
  }
  const options = {increasingStride, inputSize: 13, outputSize: 21};
  return (
    complex ? butterflyToDense({real: first, imag: second}, options).real : butterflyToDense(first, options)
  ) as tf.Tensor2D;
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
      const expected = tf.add(tf.matMul(x as tf.Tensor2D, matrixOf(layer), false, true), bias.read());
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
      let saved: tf.io.ModelArtifacts | undefined;
      await model.save(
        tf.io.withSaveHandler(async (artifacts) => {
          saved = artifacts;
          return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
        }),
      );
      const modelTopology = JSON.parse(JSON.stringify(saved?.modelTopology));
      const loaded = await tfl.loadLayersModel(tf.io.fromMemory({...saved, modelTopology}));
      const [before, after] = [model, loaded].map((each) => each.predict(x) as tf.Tensor);
      expect(Array.from(await after.data())).toEqual(Array.from(await before.data()));
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
    const model = tfl.sequential({layers: [monarchDense({units: 256, seed: 6, inputShape: [256]})]});
    const y = model.predict(normal([200, 256], 7)) as tf.Tensor;
    const [variance] = await tf.moments(y).variance.data();
    expect(Math.abs(3 * variance - 1)).toBeLessThan(0.15);
    model.dispose();
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
    await expectAsync(monarchDense.fromDense(tfl.layers.dense({units: 4, name: 'bare'}))).toBeRejectedWithError(
      'monarchDense.fromDense: layer bare has no kernel; build it first.',
    );
  });
});
