/** pixelflyDense on every backend: against dense matrices, in training, saved and loaded; its sizes and its errors. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {PixelflyDense, type PixelflyDenseArgs, pixelflyDense} from '../../src/layers/index.js';
import {butterflyLayout, sizesWithinBudget} from '../../src/layers/pixelfly_budget.js';
import {expectWithin, worstError} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {DenseTwin, exactPixelfly, pickBlocks, placesInKernel, spreadKernel, weightName} from './dense_twin.js';
import {savedAndLoaded} from './saved_and_loaded.js';

/** Sizes of a layer; blocks of 8 unless another size is given. */
interface LayerCase extends Partial<PixelflyDenseArgs> {
  /** Axes of the input before the last. */
  leading: number[];
  inputs: number;
  units: number;
}

const butterfly = {butterflySize: 4, factors: 1};

const layerCases: LayerCase[] = [
  {leading: [7], inputs: 32, units: 64, ...butterfly, rank: 0},
  {leading: [7], inputs: 32, units: 64, ...butterfly, rank: 5},
  {leading: [7], inputs: 32, units: 64, ...butterfly, rank: 5, gated: true},
  {leading: [7], inputs: 32, units: 64, ...butterfly, rank: 0, useBias: false},
  {leading: [7], inputs: 32, units: 64, ...butterfly, rank: 3, globalSize: 8},
  {leading: [2, 5], inputs: 64, units: 32, ...butterfly, rank: 4, gated: true},
  {leading: [2, 3, 4], inputs: 32, units: 32, ...butterfly, rank: 4},
  {leading: [7], inputs: 37, units: 50, ...butterfly, rank: 4, gated: true},
  {leading: [7], inputs: 37, units: 64, ...butterfly, rank: 0},
  {leading: [7], inputs: 64, units: 50, ...butterfly, rank: 4},
  {leading: [7], inputs: 48, units: 80, blockSize: [16, 8], ...butterfly, rank: 4},
  {leading: [1], inputs: 5, units: 3, blockSize: 8, butterflySize: 1, factors: 0, rank: 0},
  {leading: [7], inputs: 64, units: 96, density: 0.5, gated: true},
];

const toArgs = ({leading, inputs, ...args}: LayerCase): PixelflyDenseArgs => ({
  blockSize: 8,
  inputShape: [...leading.slice(1), inputs],
  ...args,
});

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** A model of only this layer, whose weights are all random, those that start from 0 and the padding too. */
function makeModel(layerCase: LayerCase): {model: tfl.Sequential; layer: PixelflyDense} {
  const layer = pixelflyDense(toArgs(layerCase));
  const model = tfl.sequential({layers: [layer]});
  tf.tidy(() => layer.setWeights(layer.weights.map(({shape}, i) => tf.mul(normal(shape as number[], i + 1), 0.3))));
  return {model, layer};
}

async function makeTwin(layer: PixelflyDense, {inputs, units}: LayerCase) {
  const places = placesInKernel(layer, inputs, units);
  const weights = await Promise.all(
    layer.weights.map(async (weight) => {
      const name = weightName(weight);
      const values = (await weight.read().data()) as Float32Array;
      return name === 'sparse_kernel'
        ? {name, shape: [inputs, units], values: spreadKernel(places, values, inputs * units)}
        : {name, shape: weight.shape as number[], values};
    }),
  );
  const mask = spreadKernel(places, new Float32Array(places.length).fill(1), inputs * units);
  return {twin: new DenseTwin(weights, mask), weights, places};
}

/** The output of a model, and the gradients of Σ output·outputWeights for x and for the weights of its last layer. */
async function resultOf(model: tfl.Sequential, x: tf.Tensor, outputWeights: tf.Tensor) {
  const [layer] = model.layers.slice(-1);
  const input = tf.variable(x);
  const weights = layer.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const y = model.apply(x) as tf.Tensor;
  const {value, grads} = tf.variableGrads(
    () => tf.sum(tf.mul(model.apply(input) as tf.Tensor, outputWeights)),
    [input, ...weights],
  );
  const gradients: Record<string, ArrayLike<number>> = {x: await grads[input.name].data()};
  for (const [i, weight] of layer.trainableWeights.entries()) {
    gradients[weightName(weight)] = await grads[weights[i].name].data();
  }
  const output = {shape: y.shape, y: await y.data(), gradients};
  tf.dispose([input, value, y, ...Object.values(grads)]);
  return output;
}

/** The rule: at most twice the error of the dense formula in float32, plus 1e-5. */
async function expectLayerRight(layerCase: LayerCase): Promise<void> {
  const {leading, inputs, units} = layerCase;
  const {model, layer} = makeModel(layerCase);
  const {twin, weights, places} = await makeTwin(layer, layerCase);
  const twinModel = tfl.sequential({layers: [tfl.layers.inputLayer({inputShape: toArgs(layerCase).inputShape}), twin]});
  const [x, outputWeights] = [normal([...leading, inputs], 101), normal([...leading, units], 102)];
  const actual = await resultOf(model, x, outputWeights);
  const yardstick = await resultOf(twinModel, x, outputWeights);

  const sizes = {
    rows: tf.util.sizeFromShape(leading),
    inputs,
    units,
    rank: weights.find(({name}) => name === 'low_rank_in')?.shape[1] ?? 0,
  };
  const byName = Object.fromEntries(weights.map(({name, values}) => [name, values]));
  const exact = exactPixelfly(sizes, await x.data(), byName, await outputWeights.data());
  expect(actual.shape).toEqual([...leading, units]);
  expectWithin('y', actual.y, exact.y, 2 * worstError(yardstick.y, exact.y));
  expect(Object.keys(actual.gradients).sort()).toEqual(Object.keys(exact.gradients).sort());
  for (const [name, gradient] of Object.entries(exact.gradients)) {
    const right = name === 'sparse_kernel' ? pickBlocks(places, gradient) : gradient;
    expectWithin(
      `gradient of ${name}`,
      actual.gradients[name],
      right,
      2 * worstError(yardstick.gradients[name], gradient),
    );
  }
  model.dispose();
  twinModel.dispose();
}

describeOnBackends('pixelflyDense agrees with dense matrices, forward and backward', () => {
  for (const layerCase of layerCases) it(JSON.stringify(layerCase), () => expectLayerRight(layerCase));
});

describeOnBackends('pixelflyDense in a model', () => {
  /** A layer between others, so that gradients pass through it both ways. */
  const stack = (middle: tfl.layers.Layer) =>
    tfl.sequential({
      layers: [
        tfl.layers.dense({
          units: 32,
          activation: 'tanh',
          inputShape: [20],
          kernelInitializer: tfl.initializers.glorotUniform({seed: 1}),
        }),
        middle,
        tfl.layers.dense({units: 1, kernelInitializer: tfl.initializers.glorotUniform({seed: 2})}),
      ],
    });

  for (const optimizer of ['sgd', 'adam'] as const) {
    it(`trains as its masked dense twin does, with ${optimizer}`, async () => {
      const sizes = {leading: [64], inputs: 32, units: 48};
      const layer = pixelflyDense({units: 48, blockSize: 8, ...butterfly, rank: 4, gated: true, seed: 3});
      const model = stack(layer);
      const {twin} = await makeTwin(layer, sizes);
      const twinModel = stack(twin);
      const x = normal([64, 20], 4);
      const y = tf.sum(tf.sin(tf.slice(x, [0, 0], [-1, 3])), 1, true);
      const losses = [];
      for (const each of [model, twinModel]) {
        const rate = optimizer === 'sgd' ? tf.train.sgd(0.05) : tf.train.adam(0.01);
        each.compile({optimizer: rate, loss: 'meanSquaredError'});
        const {history} = await each.fit(x, y, {epochs: 20, batchSize: 64, shuffle: false, verbose: 0});
        losses.push(history.loss as number[]);
        rate.dispose();
      }
      expectWithin('loss at each step', losses[0], losses[1], 1e-5);
      expect(losses[0][19]).toBeLessThan(losses[0][0] / 2);
      model.dispose();
      twinModel.dispose();
    });
  }

  it('is the same after it was saved and loaded, without its budget chosen again', async () => {
    const layerCase = {leading: [3], inputs: 40, units: 64, density: 0.6, gated: true, activation: 'relu'} as const;
    const {model, layer} = makeModel({...layerCase, leading: [3], kernelRegularizer: 'l1l2', seed: 5});
    const x = normal([3, 40], 6);
    const before = model.predict(x) as tf.Tensor;
    const loaded = await savedAndLoaded(model);
    const copy = loaded.layers[0] as PixelflyDense;
    expect(copy.getClassName()).toBe('PixelflyDense');
    expect(copy.getConfig()).toEqual(layer.getConfig());
    expect(copy.getConfig().density).toBeUndefined();
    expect(copy.layout.equals(layer.layout)).toBe(true);
    const after = loaded.predict(x) as tf.Tensor;
    expect(Array.from(await after.data())).toEqual(Array.from(await before.data()));
    model.dispose();
    loaded.dispose();
  });

  it('has a configuration from which another layer is made', () => {
    const regularizer = tfl.regularizers.l1({l1: 0.1});
    const layer = pixelflyDense({
      units: 24,
      density: 0.4,
      blockSize: [4, 8],
      globalSize: 4,
      kernelInitializer: tfl.initializers.heNormal({seed: 1}),
      biasInitializer: 'ones',
      biasRegularizer: regularizer,
      activityRegularizer: 'l1l2',
      activation: 'elu',
      name: 'sparse',
    });
    const config = layer.getConfig();
    expect(config).toEqual(
      jasmine.objectContaining({name: 'sparse', density: 0.4, blockSize: [4, 8], globalSize: 4, activation: 'elu'}),
    );
    const copy = PixelflyDense.fromConfig(PixelflyDense, config);
    expect(copy.getConfig()).toEqual(config);
  });

  it('adds the losses of its regularizers', async () => {
    const regularizers = {
      kernelRegularizer: tfl.regularizers.l2({l2: 0.5}),
      biasRegularizer: tfl.regularizers.l1({l1: 2}),
    };
    const {model, layer} = makeModel({leading: [1], inputs: 32, units: 16, ...butterfly, rank: 2, ...regularizers});
    const losses = await Promise.all(layer.calculateLosses().map(async (loss) => (await loss.data())[0]));
    const sumOf = async (weight: tf.Tensor, of: (value: number) => number) =>
      Array.from(await weight.data()).reduce((total, value) => total + of(value), 0);
    const [sparse, lowRankIn, lowRankOut, bias] = layer.getWeights();
    const halfSquares = [sparse, lowRankIn, lowRankOut].map((weight) => sumOf(weight, (value) => value ** 2 / 2));
    const expected = await Promise.all([...halfSquares, sumOf(bias, (value) => 2 * Math.abs(value))]);
    expectWithin('losses', losses, expected, 1e-6 * Math.max(...expected));
    model.dispose();
  });

  it('is shared by two inputs of a functional model, and freed after its last use', async () => {
    const layer = pixelflyDense({units: 16, blockSize: 8, ...butterfly, rank: 2});
    const [left, right] = [tfl.input({shape: [3, 32]}), tfl.input({shape: [3, 32]})];
    const outputs = tfl.layers.add().apply([left, right].map((input) => layer.apply(input) as tfl.SymbolicTensor));
    const model = tfl.model({inputs: [left, right], outputs: outputs as tfl.SymbolicTensor});
    const disposed = spyOn(layer.layout, 'dispose').and.callThrough();
    const x = normal([2, 3, 32], 1);
    const [both, once] = [model.predict([x, x]) as tf.Tensor, layer.apply(x) as tf.Tensor];
    expect(both.shape).toEqual([2, 3, 16]);
    const twice = Array.from(await once.data(), (value) => 2 * value);
    expectWithin('sum', await both.data(), twice, 0);
    // tfjs counts each place where a layer is applied as a use of its own.
    model.dispose();
    expect(disposed).not.toHaveBeenCalled();
    layer.dispose();
    expect(disposed).toHaveBeenCalledTimes(1);
  });

  it('counts all its parameters, and tells its density', () => {
    const {model, layer} = makeModel({leading: [1], inputs: 64, units: 128, ...butterfly, rank: 6, gated: true});
    const names = layer.weights.map((weight) => [weightName(weight), weight.shape]);
    expect(names).toEqual([
      ['sparse_kernel', [64, 8, 8]],
      ['low_rank_in', [64, 6]],
      ['low_rank_out', [6, 128]],
      ['gate_kernel', [64, 1]],
      ['gate_bias', [1]],
      ['bias', [128]],
    ]);
    expect(layer.trainableWeights.length).toBe(6);
    expect(layer.countParams()).toBe(64 * 64 + 6 * (64 + 128) + 65 + 128);
    expect(layer.density).toBe((64 * 64 + 6 * (64 + 128)) / (64 * 128));
    expect(layer.layout.density).toBe(0.5);
    expect(layer.toString()).toBe(
      `${layer.name}: 64 → 128, 64 of 128 blocks of 8 × 8, rank 6, 64.1 % of a dense kernel's parameters`,
    );
    const lines: string[] = [];
    model.summary(undefined, undefined, (line) => lines.push(line));
    expect(lines.join('\n')).toMatch(new RegExp(`^pixelfly_dense_.* ${layer.countParams()} `, 'm'));
    model.dispose();
  });

  it('says what is wrong with its arguments', () => {
    const make = (args: Partial<PixelflyDenseArgs>) => () => pixelflyDense({units: 8, ...args});
    expect(make({units: 0, density: 1})).toThrowError('pixelflyDense: units must be an integer from 1 on, got 0.');
    expect(make({})).toThrowError(
      'pixelflyDense: butterflySize is missing; give density, or butterflySize and factors.',
    );
    expect(make({butterflySize: 2})).toThrowError(
      'pixelflyDense: factors is missing; give density, or butterflySize and factors.',
    );
    expect(make({density: 0.5, rank: 8})).toThrowError(
      'pixelflyDense: rank cannot be given beside density, which chooses it.',
    );
    expect(make({density: 1.5})).toThrowError('pixelflyDense: density must be above 0 and at most 1, got 1.5.');
    expect(make({...butterfly, rank: 0.5})).toThrowError('pixelflyDense: rank must be an integer from 0 on, got 0.5.');
    expect(make({...butterfly, gated: true})).toThrowError(
      'pixelflyDense: gated needs a low-rank term to weigh, got rank 0.',
    );
    expect(make({density: 1, blockSize: 0})).toThrowError(/blockSize must be one or two positive integers, got 0/);
    expect(make({density: 1, activation: 'rely' as 'relu'})).toThrowError(
      "pixelflyDense: activation names no registered class, got 'rely'.",
    );
    const build = (args: Partial<PixelflyDenseArgs>) => () => pixelflyDense({units: 64, ...args}).build([null, 64]);
    expect(build({density: 0.05, blockSize: 16})).toThrowError(
      'pixelflyDense: density must leave room for a low-rank term of rank 1, in a third of the budget, and for a ' +
        'butterfly; got 0.05 of a kernel [64, 64], 204 parameters, in blocks of 16 × 16.',
    );
    expect(build({butterflySize: 3, factors: 1})).toThrowError(
      /butterflySize must be a power of two from 1 to 64, got 3/,
    );
    expect(() => pixelflyDense({units: 8, density: 1}).build([null, null])).toThrowError(
      'pixelflyDense: the last axis of the input must be known, got shape [,].',
    );
    expect(() => pixelflyDense({units: 8, density: 1, name: 'early'}).density).toThrowError(
      'pixelflyDense: layer early has no layout before it is built.',
    );
  });
});

describe('pixelflyDense chooses sizes for a budget', () => {
  const chosen = (inputs: number, units: number, density: number, blockSize: number) => {
    const kernel = {inputs, units, density, blockSize, globalSize: 0};
    const sizes = sizesWithinBudget(kernel);
    return {
      ...sizes,
      lowRank: sizes.rank * (inputs + units),
      sparse: butterflyLayout(kernel, sizes).nnz * blockSize ** 2,
    };
  };

  it('a quarter to a third for the low-rank term, the rest for the butterfly', () => {
    for (const [inputs, units] of [
      [768, 768],
      [768, 3072],
      [3000, 700],
    ]) {
      for (const density of [0.1, 0.25, 0.5, 1]) {
        const budget = density * inputs * units;
        const {rank, lowRank, sparse} = chosen(inputs, units, density, 16);
        const what = `${inputs} → ${units}, ${density}: rank ${rank}, ${sparse} parameters in blocks`;
        expect(lowRank / budget)
          .withContext(what)
          .toBeGreaterThanOrEqual(1 / 4);
        expect(lowRank / budget)
          .withContext(what)
          .toBeLessThanOrEqual(1 / 3);
        expect(lowRank + sparse)
          .withContext(what)
          .toBeLessThanOrEqual(budget);
        // Bands double from one butterfly to the next.
        expect(sparse)
          .withContext(what)
          .toBeGreaterThan((budget - lowRank) / 2);
      }
    }
  });

  it('in ranks of a multiple of 8, and the most bands of those that fit', () => {
    // A third of half of 1024² pays for rank 85.3, and what rank 80 leaves for 352 of 1024 blocks: 320 are 5 of 16 bands.
    expect(chosen(1024, 1024, 0.5, 32)).toEqual({
      butterflySize: 16,
      factors: 4,
      rank: 80,
      lowRank: 80 * 2048,
      sparse: 320 * 32 ** 2,
    });
  });
});

describeOnBackends('pixelflyDense starts', () => {
  const build = (args: Partial<PixelflyDenseArgs>) => {
    const layer = pixelflyDense({units: 256, blockSize: 16, butterflySize: 8, factors: 2, inputShape: [256], ...args});
    return {layer, model: tfl.sequential({layers: [layer]})};
  };

  for (const args of [
    {rank: 0},
    {rank: 32},
    {rank: 32, gated: true},
    {rank: 0, kernelInitializer: tfl.initializers.leCunUniform({seed: 9})},
  ]) {
    it(`with the variance that a dense kernel gives, ${JSON.stringify({...args, kernelInitializer: 'kernelInitializer' in args})}`, async () => {
      const {model} = build({...args, seed: 7});
      const y = model.predict(normal([256, 256], 8)) as tf.Tensor;
      const [variance] = await tf.moments(y).variance.data();
      const expected = 'kernelInitializer' in args ? 1 : 1 / 3;
      expect(Math.abs(variance / expected - 1)).toBeLessThan(0.05);
      model.dispose();
    });
  }

  it('from the same weights with the same seed, and from others without', async () => {
    const weightsOf = async (seed?: number) => {
      const {model, layer} = build({rank: 4, seed});
      const values = await Promise.all(layer.getWeights().map(async (weight) => Array.from(await weight.data())));
      model.dispose();
      return values;
    };
    const [first, second, other, unseeded] = [
      await weightsOf(1),
      await weightsOf(1),
      await weightsOf(2),
      await weightsOf(),
    ];
    expect(first).toEqual(second);
    for (const weight of [0, 1, 2]) {
      expect(first[weight]).not.toEqual(other[weight]);
      expect(first[weight]).not.toEqual(unseeded[weight]);
    }
  });

  it('from a given initializer, as a dense kernel of which live blocks are taken', async () => {
    const one = tfl.initializers.constant({value: 1});
    const {layer, model} = build({
      units: 21,
      blockSize: 8,
      inputShape: [13],
      butterflySize: 2,
      factors: 0,
      kernelInitializer: one,
    });
    const places = placesInKernel(layer, 13, 21);
    const liveInputs = new Int32Array(21);
    for (const place of places) if (place >= 0) liveInputs[place % 21]++;
    const expected = places.map((place) => (place < 0 ? 0 : Math.sqrt(13 / liveInputs[place % 21])));
    expectWithin('sparse kernel', await layer.getWeights()[0].data(), expected, 0);
    model.dispose();
  });

  it('with 0 in the part of edge blocks that lies beyond the kernel, and keeps it', async () => {
    const layer = pixelflyDense({units: 21, blockSize: 8, butterflySize: 2, factors: 0, inputShape: [13], rank: 0});
    const model = tfl.sequential({layers: [layer]});
    model.compile({optimizer: 'adam', loss: 'meanSquaredError'});
    const places = placesInKernel(layer, 13, 21);
    const beyond = async () => {
      const values = await layer.getWeights()[0].data();
      return Array.from(values).filter((_, i) => places[i] < 0);
    };
    expect((await beyond()).length).toBeGreaterThan(0);
    expect(new Set(await beyond())).toEqual(new Set([0]));
    await model.fit(normal([8, 13], 1), normal([8, 21], 2), {epochs: 3, verbose: 0});
    expect(new Set(await beyond())).toEqual(new Set([0]));
    const live = places.length - (await beyond()).length;
    expect(live).toBeGreaterThan(0);
    (model.optimizer as tf.Optimizer).dispose();
    model.dispose();
  });
});
