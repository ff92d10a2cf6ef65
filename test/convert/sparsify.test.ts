/** sparsify: what models of structured layers compute, keep, learn and save, and what it says about wrong arguments. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {monarchToDense} from '../../src/index.js';
import {
  gpt,
  LanguageModel,
  MonarchDense,
  monarchDense,
  PixelflyDense,
  pixelflyDense,
  type Sparsifiable,
  type SparsifyOptions,
  sparsify,
} from '../../src/layers/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends, restoreBackendAfterwards} from '../backends.js';
import {placesInKernel, spreadKernel} from '../layers/dense_twin.js';
import {savedAndLoaded} from '../layers/saved_and_loaded.js';

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);
const predict = (model: tfl.LayersModel, x: tf.Tensor) => (model.predict(x) as tf.Tensor).data();

/** The matrix [in, units] of a structured layer, for sides of whole blocks. */
async function kernelOf(layer: tfl.layers.Layer): Promise<tf.Tensor2D> {
  const weights = layer.weights.map((weight) => weight.read());
  if (layer instanceof MonarchDense) {
    return tf.tidy(() => tf.transpose(monarchToDense(weights[0], weights[1]))) as tf.Tensor2D;
  }
  const [sparse, lowRankIn, lowRankOut] = weights as [tf.Tensor, tf.Tensor2D, tf.Tensor2D];
  const [inputs, units] = [lowRankIn.shape[0], lowRankOut.shape[1]];
  const places = placesInKernel(layer as PixelflyDense, inputs, units);
  const kernel = tf.tensor2d(spreadKernel(places, await sparse.data(), inputs * units), [inputs, units]);
  return tf.tidy(() => tf.mul(0.5, tf.add(kernel, tf.matMul(lowRankIn, lowRankOut)))) as tf.Tensor2D;
}

/** Of 64 inputs: a layer that is used twice, around a residual, a normalization with moved averages, and 3 outputs. */
function sharedModel(): tfl.LayersModel {
  const x = tfl.input({shape: [64]});
  const shared = tfl.layers.dense({units: 64, activation: 'tanh', biasInitializer: 'randomNormal', name: 'shared'});
  const once = shared.apply(x) as tfl.SymbolicTensor;
  const twice = shared.apply(tfl.layers.add().apply([x, once])) as tfl.SymbolicTensor;
  const normalized = tfl.layers
    .batchNormalization({movingVarianceInitializer: tfl.initializers.constant({value: 4}), name: 'normalized'})
    .apply(twice) as tfl.SymbolicTensor;
  const outputs = tfl.layers.dense({units: 3, name: 'head'}).apply(normalized) as tfl.SymbolicTensor;
  return tfl.model({inputs: x, outputs});
}

const kinds: Record<string, SparsifyOptions> = {
  monarch: {to: 'monarch', blocks: 4},
  pixelfly: {to: 'pixelfly', density: 0.5, blockSize: 16},
};

describeOnBackends('sparsify', () => {
  for (const [kind, options] of Object.entries(kinds)) {
    it(`gives a model that computes with the nearest matrices, learns, and can be saved: ${kind}`, async () => {
      const original = sharedModel();
      const x = normal([5, 64], 1);
      const before = await predict(original, x);
      const {model, layers} = await sparsify(original, options);
      expect(await predict(original, x)).toEqual(before);
      expect(model.layers.map(({name}) => name)).toEqual(original.layers.map(({name}) => name));
      const [dense, layer] = [original, model].map((each) => each.getLayer('shared'));
      expect(layer).toBeInstanceOf(kind === 'monarch' ? MonarchDense : PixelflyDense);
      expect(layer.inboundNodes.length).toBe(2);
      expect(model.getLayer('head').getClassName()).toBe('Dense');

      const [kernel, nearest] = [dense.getWeights()[0], await kernelOf(layer)];
      const [distance, norm] = await Promise.all(
        [tf.norm(tf.sub(kernel, nearest)), tf.norm(kernel)].map((t) => t.data()),
      );
      expect(layers).toEqual([
        {
          name: 'shared',
          parametersBefore: 64 * 64 + 64,
          parametersAfter: layer.countParams(),
          relativeError: jasmine.any(Number),
        },
      ]);
      expect(layer.countParams()).toBeLessThan(0.55 * dense.countParams());
      expect(layers[0].relativeError).toBeCloseTo(distance[0] / norm[0], 4);
      expect(layers[0].relativeError).toBeLessThan(0.75);

      // The original with these matrices.
      dense.setWeights([nearest, dense.getWeights()[1]]);
      expectWithin('y', await predict(model, x), await predict(original, x), 2e-5);

      const optimizer = tf.train.adam(0.01);
      model.compile({optimizer, loss: 'meanSquaredError'});
      const {history} = await model.fit(x, normal([5, 3], 2), {epochs: 5, verbose: 0});
      expect(history.loss[4]).toBeLessThan(0.8 * (history.loss[0] as number));
      const loaded = await savedAndLoaded(model);
      expect(await predict(loaded, x)).toEqual(await predict(model, x));
      for (const each of [original, model, loaded]) {
        each.dispose();
        // tfjs counts a layer's calls, and takes one off for a model.
        expect(each.getLayer('shared').dispose().refCountAfterDispose).toBe(0);
      }
      optimizer.dispose();
    });
  }
});

/** Has a dense layer inside, as a block of a transformer has. */
class Wrapped extends tfl.layers.Layer implements Sparsifiable {
  static readonly className = 'Wrapped';
  private readonly inner: tfl.layers.Layer;

  constructor(private readonly args: {sparse?: boolean; name?: string}) {
    super(args);
    this.inner = args.sparse ? monarchDense({units: 16, blocks: 2}) : tfl.layers.dense({units: 16});
  }

  override build(inputShape: tfl.Shape): void {
    this.inner.build(inputShape);
    this.trainableWeights = this.inner.trainableWeights;
    this.built = true;
  }

  override call(x: tf.Tensor | tf.Tensor[]): tf.Tensor | tf.Tensor[] {
    return this.inner.call(x, {});
  }

  sparsifiedConfig(): tf.serialization.ConfigDict {
    return {...this.getConfig(), sparse: true};
  }

  async takeFrom(original: this) {
    await (this.inner as MonarchDense).project(original.inner.getWeights()[0] as tf.Tensor2D);
    return [{name: 'inner', parametersBefore: 272, parametersAfter: 144, relativeError: 0.5}];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.args};
  }
}
tf.serialization.registerClass(Wrapped);

describe('sparsify', () => {
  restoreBackendAfterwards();
  beforeAll(() => tf.setBackend('cpu'));
  let tensors: number;
  beforeEach(() => {
    tensors = tf.memory().numTensors;
    tf.engine().startScope();
  });
  afterEach(() => {
    tf.engine().endScope();
    expect(tf.memory().numTensors).withContext('tensors leaked').toBe(tensors);
  });

  const structured = {
    monarch: () => monarchDense({units: 24, blocks: 2, seed: 1, inputShape: [16]}),
    pixelfly: () =>
      pixelflyDense({units: 24, blockSize: 4, butterflySize: 4, factors: 1, rank: 2, seed: 1, inputShape: [16]}),
  };
  for (const [kind, make] of Object.entries(structured)) {
    it(`finds a structured matrix again: ${kind}`, async () => {
      const expected = tfl.sequential({layers: [make()]});
      const dense = tfl.sequential({layers: [tfl.layers.dense({units: 24, inputShape: [16], name: 'dense'})]});
      dense.layers[0].setWeights([await kernelOf(expected.layers[0]), normal([24], 2)]);
      expected.layers[0].weights[expected.layers[0].weights.length - 1].write(dense.getWeights()[1] as tf.Tensor);
      const options: SparsifyOptions =
        kind === 'monarch'
          ? {to: 'monarch', blocks: 2, layers: ['dense']}
          : {to: 'pixelfly', blockSize: 4, butterflySize: 4, factors: 1, rank: 2, layers: ['dense']};
      const {model, layers} = await sparsify(dense, options);
      expect(model).toBeInstanceOf(tfl.Sequential);
      expect(layers[0].relativeError).toBeLessThan(1e-6);
      expect(layers[0].parametersAfter).toBe(expected.countParams());
      const x = normal([3, 16], 3);
      expectWithin('y', await predict(model, x), await predict(expected, x), 5e-6);
      for (const each of [expected, dense, model]) each.dispose();
    });
  }

  it('projects to a gated pixelfly layer, whose gate is even', async () => {
    const dense = tfl.layers.dense({units: 24, activation: 'relu', inputShape: [16]});
    const model = tfl.sequential({layers: [dense]});
    const options = {blockSize: 4, butterflySize: 4, factors: 1, rank: 2};
    const models = [false, true].map(async (gated) =>
      tfl.sequential({layers: [await pixelflyDense.fromDense(dense, {...options, gated})]}),
    );
    const [even, gated] = await Promise.all(models);
    const x = normal([3, 16], 3);
    expectWithin('y', await predict(gated, x), await predict(even, x), 1e-6);
    for (const each of [model, even, gated]) each.dispose();
  });

  it('goes into models inside of the model, and keeps what layers are told', async () => {
    const inside = tfl.sequential({name: 'inside'});
    inside.add(
      tfl.layers.dense({
        units: 16,
        activation: 'elu',
        kernelRegularizer: tfl.regularizers.l2({l2: 0.25}),
        inputShape: [7, 16],
        name: 'wide',
      }),
    );
    inside.add(tfl.layers.dense({units: 16, useBias: false, trainable: false, name: 'frozen'}));
    const model = tfl.sequential({layers: [inside, tfl.layers.dense({units: 16, name: 'wide'})]});
    model.layers[1].trainable = false;
    const {model: sparse, layers} = await sparsify(model, {
      to: 'monarch',
      blocks: 2,
      layers: (_, path) => path.startsWith('inside/') || path === 'wide',
    });
    expect(layers.map(({name}) => name)).toEqual(['inside/wide', 'inside/frozen', 'wide']);
    expect(sparse.outputs[0].shape).toEqual([null, 7, 16]);
    const [wide, frozen] = (sparse.layers[0] as tfl.Sequential).layers;
    expect([wide, frozen].map((layer) => layer.getClassName())).toEqual(['MonarchDense', 'MonarchDense']);
    expect(wide.getConfig().activation).toBe('elu');
    expect(wide.getConfig().kernelRegularizer).toEqual({className: 'L1L2', config: {l1: 0, l2: 0.25}});
    expect([wide.weights.length, frozen.weights.length]).toEqual([3, 2]);
    expect([wide, frozen, sparse.layers[1]].map((layer) => layer.trainableWeights.length)).toEqual([3, 0, 0]);
    for (const each of [model, sparse]) each.dispose();
  });

  it('keeps what is frozen of a model inside, and the order of weights of which some are', async () => {
    const inside = tfl.sequential({
      name: 'inside',
      layers: [tfl.layers.dense({units: 16, inputShape: [16]}), tfl.layers.dense({units: 16})],
    });
    inside.layers[1].weights[0].trainable = false;
    const model = tfl.sequential({layers: [inside]});
    const copy = (await sparsify(model, {to: 'monarch'})).model;
    expect(copy.trainableWeights.length).toBe(3);
    const x = normal([2, 16], 1);
    expect(await predict(copy, x)).toEqual(await predict(model, x));
    inside.trainable = false;
    const frozen = (await sparsify(model, {to: 'monarch'})).model;
    expect(frozen.trainableWeights.length).toBe(0);
    for (const each of [model, copy, frozen]) each.dispose();
  });

  it('by default replaces what gets smaller', async () => {
    const model = tfl.sequential();
    model.add(tfl.layers.dense({units: 64, name: 'narrow', inputShape: [63]}));
    model.add(tfl.layers.dense({units: 128, name: 'wide'}));
    const replaced = async (options: SparsifyOptions) => {
      const {model: sparse, layers} = await sparsify(model, options);
      sparse.dispose();
      return layers.map(({name}) => name);
    };
    expect(await replaced({to: 'monarch'})).toEqual(['wide']);
    expect(await replaced({to: 'monarch', blocks: 1})).toEqual([]);
    expect(await replaced({to: 'pixelfly', density: 0.01})).toEqual([]);
    expect(await replaced({to: 'pixelfly', density: 0.9})).toEqual(['wide']);
    model.dispose();
  });

  it('lets layers replace what they have inside', async () => {
    const model = tfl.sequential({layers: [tfl.layers.inputLayer({inputShape: [16]}), new Wrapped({name: 'block'})]});
    const {model: sparse, layers} = await sparsify(model, {to: 'monarch'});
    expect(layers).toEqual([{name: 'block/inner', parametersBefore: 272, parametersAfter: 144, relativeError: 0.5}]);
    const kernel = model.getWeights()[0] as tf.Tensor2D;
    const twin = tfl.sequential({layers: [tfl.layers.dense({units: 16, inputShape: [16]})]});
    twin.layers[0].setWeights([kernel, tf.zeros([16])]);
    const monarch = tfl.sequential({layers: [await monarchDense.fromDense(twin.layers[0], {blocks: 2})]});
    const x = normal([2, 16], 1);
    expectWithin('y', await predict(sparse, x), await predict(monarch, x), 1e-6);
    for (const each of [model, sparse, twin, monarch]) each.dispose();
  });

  for (const [kind, options] of Object.entries(kinds)) {
    it(`projects the feed-forward nets of a language model: ${kind}`, async () => {
      const sizes = {layers: 2, heads: 2, width: 64, contextLength: 8, vocabSize: 11};
      const {to, ...mlpOptions} = options;
      const dense = gpt({...sizes, seed: 1});
      const {model, layers} = await sparsify(dense, options);
      expect(model).toBeInstanceOf(LanguageModel);
      const names = ['mlp_in', 'mlp_out'].flatMap((layer) => [`block_0/${layer}`, `block_1/${layer}`]);
      expect(layers.map(({name}) => name).sort()).toEqual(names.sort());

      const expected = gpt({...sizes, mlp: to, mlpOptions});
      const named = (of: tfl.LayersModel) => new Map(of.weights.map((weight) => [weight.originalName, weight]));
      const ofExpected = named(expected);
      const twins: tfl.LayersModel[] = [];
      for (const [name, weight] of named(dense)) {
        ofExpected.get(name)?.write(weight.read());
        if (!/mlp_(in|out)\/kernel$/.test(name)) continue;
        const [inputs, units] = weight.shape as [number, number];
        const twin = tfl.sequential({layers: [tfl.layers.dense({units, useBias: false, inputShape: [inputs]})]});
        twin.setWeights([weight.read()]);
        const {fromDense} = to === 'monarch' ? monarchDense : pixelflyDense;
        const structured = tfl.sequential({layers: [await fromDense(twin.layers[0], mlpOptions)]});
        for (const part of structured.weights) {
          const own = part.originalName.replace(/^.*\//, '');
          (ofExpected.get(name.replace(/kernel$/, own)) as tfl.LayerVariable).write(part.read());
        }
        twins.push(twin, structured);
      }
      const tokens = tf.tensor2d([[1, 5, 10, 0, 3]], [1, 5], 'int32');
      expectWithin('logits', await predict(model, tokens), await predict(expected, tokens), 1e-6);
      for (const each of [expected, dense, model, ...twins]) each.dispose();
    });
  }

  it('leaves feed-forward nets alone that are structured already, or too small to gain', async () => {
    const sizes = {layers: 1, heads: 2, contextLength: 8, vocabSize: 11};
    for (const model of [
      gpt({...sizes, width: 64, mlp: 'monarch', mlpOptions: {blocks: 4}}),
      gpt({...sizes, width: 8}),
    ]) {
      const {model: copy, layers} = await sparsify(model, {to: 'monarch', blocks: 4});
      expect(layers).toEqual([]);
      for (const each of [model, copy]) each.dispose();
    }
  });

  it('says what is wrong with its arguments, and leaves nothing behind', async () => {
    const model = tfl.sequential();
    model.add(tfl.layers.dense({units: 10, name: 'first', inputShape: [8]}));
    model.add(tfl.layers.dropout({rate: 0.5, name: 'dropped'}));
    const rejected = async (options: object, message: string | RegExp) =>
      expectAsync(sparsify(model, options as SparsifyOptions)).toBeRejectedWithError(message as string);
    await rejected(
      {to: 'monarch', layers: ['x']},
      "sparsify: layers names 'x', no layer of the model; its dense layers are: first.",
    );
    await rejected(
      {to: 'monarch', layers: ['dropped']},
      "sparsify: layers names 'dropped', which is of class Dropout and not dense; dense layers are: first.",
    );
    await rejected({to: 'sparse', layers: ['first']}, "sparsify: to must be 'monarch' or 'pixelfly', got 'sparse'.");
    await rejected({to: 'monarch', blocks: 0.5, layers: ['first']}, /^monarchDense: blocks must be an integer/);
    await rejected({to: 'pixelfly', layers: ['first']}, /^pixelflyDense: butterflySize is missing; give density/);
    await rejected({to: 'pixelfly', density: 0.1, layers: ['first']}, /^pixelflyDense: density must leave room/);
    model.layers[0].weights[0].write(tf.fill([8, 10], Number.NaN));
    await rejected({to: 'monarch', layers: ['first']}, 'monarchProject: dense has values that are not finite.');
    await expectAsync(sparsify({} as tfl.LayersModel, {to: 'monarch'})).toBeRejectedWithError(
      'sparsify: model must be a layers model, as tf.sequential, tf.model and tf.loadLayersModel make.',
    );
    model.dispose();
  });
});
