/** flashMultiHeadAttention on every backend: against float64 and against tfjs's ops, in models, and with a cache. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {BlockLayout} from '../../src/index.js';
import {
  type AttentionCache,
  type FlashMultiHeadAttention,
  type FlashMultiHeadAttentionArgs,
  flashMultiHeadAttention,
} from '../../src/layers/index.js';
import {RotaryEmbedding} from '../../src/layers/rotary_embedding.js';
import {expectWithin, worstError} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {type AttentionProblem, attentionWeightName, exactAttention, toHost, weightsByName} from './exact_attention.js';

/** Letters: B batch, Sq queries, Sk keys, and the inputs' last axis. */
const [B, Sq, Sk, inputs] = [2, 6, 9, 8];
const sizes = {numHeads: 4, keyDim: 4};

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);
const queryInput = (seed = 101) => normal([B, Sq, inputs], seed);
const valuesInput = (seed = 102) => normal([B, Sk, inputs], seed);
/** Mostly visible; no row of the first sample's third query is. */
const maskValue = (b: number, i: number, j: number) => Number((i + 2 * j + b) % 3 !== 0 && !(b === 0 && i === 2));
const maskOf = (dtype: 'bool' | 'int32' | 'float32') =>
  tf.tensor(
    Array.from({length: B * Sq * Sk}, (_, at) =>
      maskValue(Math.floor(at / (Sq * Sk)), Math.floor(at / Sk) % Sq, at % Sk),
    ),
    [B, Sq, Sk],
    dtype,
  );

interface LayerCase {
  name: string;
  args: Partial<FlashMultiHeadAttentionArgs>;
  /** Default one input, the query. */
  makeInputs?: () => tf.Tensor[];
  problem?: Partial<AttentionProblem>;
}

/** Every step of the layer, for every backend. */
const fullCase: LayerCase = {
  name: 'grouped heads, rotary positions, low-rank additions and a mask',
  args: {numKvHeads: 2, rotary: {base: 100}, loraRank: 3, loraAlpha: 6},
  makeInputs: () => [queryInput(), valuesInput(), valuesInput(3), maskOf('int32')],
  problem: {rotaryBase: 100, loraScale: 2, isVisible: (b, _h, i, j) => maskValue(b, i, j) === 1},
};

/** The layer's own choices, which are the same on every backend: the op has specs of its own there. */
const layerCases: LayerCase[] = [
  {name: 'self-attention', args: {}},
  {
    name: 'grouped heads, causal, a window, softcap and a scale',
    args: {numKvHeads: 2, causal: true, window: [3, -1], softcap: 2, scale: 0.7},
    problem: {softcap: 2, scale: 0.7, isVisible: (_b, _h, i, j) => j <= i && j >= i - 3},
  },
  {
    name: 'cross-attention with values of another depth, without biases, to another output',
    args: {valueDim: 6, outputShape: 5, useBias: false, numKvHeads: 1},
    makeInputs: () => [queryInput(), normal([B, Sk, 3], 7), valuesInput()],
  },
  {
    name: 'causal cross-attention, aligned at the bottom right',
    args: {causal: true},
    makeInputs: () => [queryInput(), valuesInput()],
    problem: {isVisible: (_b, _h, i, j) => j <= i + Sk - Sq},
  },
  {
    name: "Keras's causal mask for cross-attention, aligned at the top left",
    args: {useCausalMask: true},
    makeInputs: () => [queryInput(), valuesInput()],
    problem: {isVisible: (_b, _h, i, j) => j <= i},
  },
  {
    name: 'a mask as fourth input, beside causal',
    args: {causal: true},
    makeInputs: () => [queryInput(), valuesInput(), valuesInput(3), maskOf('int32')],
    problem: {isVisible: (b, _h, i, j) => maskValue(b, i, j) === 1 && j <= i + Sk - Sq},
  },
  {
    name: 'a mask of keys as an input by its name',
    args: {inputNames: ['query', 'valueMask']},
    makeInputs: () => [
      queryInput(),
      tf.tensor2d(
        Array.from({length: B * Sq}, (_, at) => Number(at % 4 > 0)),
        [B, Sq],
      ),
    ],
    problem: {isVisible: (b, _h, _i, j) => (b * Sq + j) % 4 > 0},
  },
  {
    name: 'a pattern of live blocks',
    args: {layout: {pattern: 'slidingWindow', window: [1, 1], blockSize: 2}},
    problem: {isVisible: (_b, _h, i, j) => Math.abs(Math.floor(i / 2) - Math.floor(j / 2)) <= 1},
  },
];

function makeLayer(args: Partial<FlashMultiHeadAttentionArgs>, xs: tf.Tensor[]): FlashMultiHeadAttention {
  const layer = flashMultiHeadAttention({...sizes, ...args});
  tf.dispose(layer.apply(xs) as tf.Tensor);
  randomizeWeights(layer);
  return layer;
}

/** Biases and low-rank factors too, which start from 0. */
function randomizeWeights(layer: tfl.layers.Layer): void {
  tf.tidy(() => layer.setWeights(layer.weights.map(({shape}, i) => tf.mul(normal(shape as number[], i + 1), 0.4))));
}

/** The output, and the gradients of Σ output·outputWeights for the weights that train and for the float inputs. */
async function resultOf(layer: FlashMultiHeadAttention, xs: tf.Tensor[]) {
  const output = layer.apply(xs) as tf.Tensor;
  const outputWeights = normal(output.shape, 103);
  const variables = xs.map((x) => (x.rank === 3 && x.dtype === 'float32' ? tf.variable(x) : x));
  const weights = layer.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const {value, grads} = tf.variableGrads(
    () => tf.sum(tf.mul(layer.apply(variables) as tf.Tensor, outputWeights)),
    [...variables.filter((x) => x instanceof tf.Variable), ...weights],
  );
  const gradients: Record<string, ArrayLike<number>> = {};
  for (const [i, x] of variables.entries()) {
    if (x instanceof tf.Variable) gradients[`input ${i}`] = await grads[x.name].data();
  }
  for (const [i, weight] of layer.trainableWeights.entries()) {
    gradients[attentionWeightName(weight)] = await grads[weights[i].name].data();
  }
  const result = {shape: output.shape, output: await output.data(), gradients};
  tf.dispose([output, outputWeights, value, grads, variables.filter((x) => x instanceof tf.Variable)]);
  return result;
}

async function expectLayerRight({args, makeInputs = () => [queryInput()], problem}: LayerCase): Promise<void> {
  const xs = makeInputs();
  const layer = makeLayer(args, xs);
  const standard = makeLayer({...args, attention: 'standard'}, xs);
  const [actual, yardstick] = [await resultOf(layer, xs), await resultOf(standard, xs)];
  const floats = xs.filter((x) => x.rank === 3 && x.dtype === 'float32');
  const [query, value = query, key = value] = await Promise.all(floats.map(toHost));
  const exact = exactAttention({query, value, key, weights: await weightsByName(layer), ...problem});
  const outputs = args.outputShape ?? inputs;
  expect(actual.shape).toEqual([B, Sq, outputs as number]);
  expect(layer.computeOutputShape(xs.map((x) => x.shape))).toEqual(actual.shape);
  const standardError = worstError(yardstick.output, exact);
  expectWithin('output of standard attention', yardstick.output, exact, 1e-5);
  expectWithin('output', actual.output, exact, 2 * standardError);
  expect(Object.keys(actual.gradients).length).toBe(floats.length + layer.trainableWeights.length);
  for (const [name, gradient] of Object.entries(yardstick.gradients)) {
    const largest = Array.from(gradient).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    // A bias of the keys adds the same to all scores of a query and has the gradient 0, unless it is turned or capped.
    if (name !== 'key/bias') expect(largest).withContext(`gradient of ${name}`).toBeGreaterThan(1e-2);
    expectWithin(`gradient of ${name}`, actual.gradients[name], gradient, 1e-5 * largest);
  }
  layer.dispose();
  standard.dispose();
}

const onCpu = {predicate: ({backendName}: {backendName: string}) => backendName === 'cpu'};

describeOnBackends('flashMultiHeadAttention agrees with float64, and its gradients with standard attention', () => {
  it(fullCase.name, () => expectLayerRight(fullCase));
});

describeOnBackends(
  'flashMultiHeadAttention does what its arguments say',
  () => {
    for (const layerCase of layerCases) it(layerCase.name, () => expectLayerRight(layerCase));
  },
  onCpu,
);

/** Concatenates. */
class GrowingCache implements AttentionCache {
  private rows: {keys: tf.Tensor4D; values: tf.Tensor4D} | undefined;

  constructor(private readonly capacity: number) {}

  get length(): number {
    return this.rows?.keys.shape[1] ?? 0;
  }

  append(keys: tf.Tensor4D, values: tf.Tensor4D): void {
    const {rows} = this;
    const joined = tf.tidy(() => ({
      keys: tf.keep(rows ? tf.concat([rows.keys, keys], 1) : tf.clone(keys)),
      values: tf.keep(rows ? tf.concat([rows.values, values], 1) : tf.clone(values)),
    }));
    this.dispose();
    this.rows = joined;
  }

  get keys(): tf.Tensor4D {
    return this.padded('keys');
  }

  get values(): tf.Tensor4D {
    return this.padded('values');
  }

  get keyLengths(): tf.Tensor1D {
    return tf.fill([B], this.length, 'int32');
  }

  /** What lies beyond the length would spoil a result that read it. */
  private padded(which: 'keys' | 'values'): tf.Tensor4D {
    const rows = (this.rows as {keys: tf.Tensor4D; values: tf.Tensor4D})[which];
    const none: [number, number] = [0, 0];
    return tf.pad(rows, [none, [0, this.capacity - this.length], none, none], 1000);
  }

  dispose(): void {
    if (this.rows) tf.dispose([this.rows.keys, this.rows.values]);
  }
}

describeOnBackends('flashMultiHeadAttention with a key/value cache', ({backendName}) => {
  const cases: Partial<FlashMultiHeadAttentionArgs>[] = [
    {rotary: true, numKvHeads: 2},
    {window: [4, 0], softcap: 2},
    {layout: {pattern: 'slidingWindow', window: [1, 0], blockSize: 2}},
  ];
  for (const args of backendName === 'cpu' ? cases : cases.slice(0, 1)) {
    it(`gives the rows of one causal call, with ${Object.keys(args).join(', ')}`, async () => {
      const x = queryInput() as tf.Tensor3D;
      const layer = makeLayer({...args, causal: true}, [x]);
      const whole = layer.apply(x) as tf.Tensor;
      const cache = new GrowingCache(8);
      const steps = [
        [0, 3],
        [3, 1],
        [4, 1],
        [5, 1],
      ].map(([first, length]) => layer.callWithCache(tf.slice(x, [0, first, 0], [-1, length, -1]), cache));
      expect(steps.map(({shape}) => shape[1])).toEqual([3, 1, 1, 1]);
      const joined = tf.concat(steps, 1);
      expectWithin('rows', await joined.data(), await whole.data(), 1e-6);
      expect(cache.length).toBe(Sq);
      cache.dispose();
      layer.dispose();
    });
  }
});

describeOnBackends('flashMultiHeadAttention turned by rotary positions', () => {
  it('leaves a product dependent on the distance alone, up to far positions', async () => {
    const rotary = new RotaryEmbedding(8, 10000);
    const [q, k] = [normal([1, 1, 1, 8], 1), normal([1, 1, 1, 8], 2)] as tf.Tensor4D[];
    const product = (first: number, second: number) =>
      tf.sum(tf.mul(rotary.rotate(q, first), rotary.rotate(k, second)));
    const near = await product(5, 2).data();
    expectWithin('at 1005 and 1002', await product(1005, 1002).data(), near, 1e-5);
    expectWithin('at 3 and 0', await product(3, 0).data(), near, 1e-5);
    const [other] = await product(2, 5).data();
    expect(Math.abs(other - near[0])).toBeGreaterThan(0.05);
    rotary.dispose();
  });
});

const selfModel = (args: Partial<FlashMultiHeadAttentionArgs>) => {
  const layer = flashMultiHeadAttention({...sizes, inputShape: [Sq, inputs], ...args});
  return {layer, model: tfl.sequential({layers: [layer]})};
};

describeOnBackends(
  'flashMultiHeadAttention in a model',
  () => {
    async function saved(model: tfl.LayersModel): Promise<tf.io.ModelArtifacts> {
      let artifacts: tf.io.ModelArtifacts | undefined;
      await model.save(
        tf.io.withSaveHandler(async (all) => {
          artifacts = all;
          return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
        }),
      );
      return {...artifacts, modelTopology: JSON.parse(JSON.stringify(artifacts?.modelTopology))};
    }

    const valuesOf = async (t: tf.Tensor) => Array.from(await t.data());

    it('learns, and leaves nothing behind', async () => {
      const x = queryInput();
      const y = tf.reverse(x, 1);
      const {model} = selfModel({
        rotary: true,
        dropout: 0.1,
        seed: 1,
        kernelInitializer: tfl.initializers.glorotNormal({seed: 1}),
      });
      const optimizer = tf.train.adam(0.02);
      model.compile({optimizer, loss: 'meanSquaredError'});
      const {history} = await model.fit(x, y, {epochs: 15, verbose: 0});
      const loss = history.loss as number[];
      expect(loss[14]).toBeLessThan(0.8 * loss[0]);
      optimizer.dispose();
      model.dispose();
    });

    it('names, shapes and counts its weights as Keras does', () => {
      const {layer, model} = selfModel({numKvHeads: 2, valueDim: 3, outputShape: 5});
      expect(layer.trainableWeights.map((weight) => [attentionWeightName(weight), weight.shape])).toEqual([
        ['query/kernel', [8, 4, 4]],
        ['query/bias', [4, 4]],
        ['key/kernel', [8, 2, 4]],
        ['key/bias', [2, 4]],
        ['value/kernel', [8, 2, 3]],
        ['value/bias', [2, 3]],
        ['attention_output/kernel', [4, 3, 5]],
        ['attention_output/bias', [5]],
      ]);
      model.dispose();
    });

    it('is the same after it was saved and loaded, with several inputs and a mask', async () => {
      const [query, value] = [tfl.input({shape: [Sq, inputs]}), tfl.input({shape: [Sk, inputs]})];
      const mask = tfl.input({shape: [Sq, Sk], dtype: 'int32'});
      const layer = flashMultiHeadAttention({
        ...sizes,
        numKvHeads: 2,
        rotary: true,
        softcap: 3,
        precision: 'fast',
        window: [4, 4],
        layout: {pattern: 'localGlobal', window: [2, 2], globalSize: 1, blockSize: [2, 3]},
        inputNames: ['query', 'value', 'attentionMask'],
        kernelInitializer: tfl.initializers.heNormal({seed: 1}),
        kernelRegularizer: 'l1l2',
      });
      const outputs = layer.apply([query, value, mask]) as tfl.SymbolicTensor;
      const model = tfl.model({inputs: [query, value, mask], outputs});
      randomizeWeights(layer);
      const xs = [queryInput(), valuesInput(), maskOf('int32')];
      const before = await valuesOf(model.predict(xs) as tf.Tensor);
      const loaded = await tfl.loadLayersModel(tf.io.fromMemory(await saved(model)));
      expect(JSON.stringify(loaded.layers[3].getConfig())).toBe(JSON.stringify(layer.getConfig()));
      expect(await valuesOf(loaded.predict(xs) as tf.Tensor)).toEqual(before);
      model.dispose();
      loaded.dispose();
    });

    it('keeps a given layout, and low-rank additions, when it is saved', async () => {
      const layout = BlockLayout.fromMask(
        [
          [true, false, true],
          [false, true, true],
          [true, true, false],
        ],
        2,
      );
      const {layer, model} = selfModel({layout, loraRank: 2, loraAlpha: 3, kernelInitializer: tfl.initializers.ones()});
      randomizeWeights(layer);
      const x = queryInput();
      const before = await valuesOf(model.predict(x) as tf.Tensor);
      const loaded = await tfl.loadLayersModel(tf.io.fromMemory(await saved(model)));
      expect(await valuesOf(loaded.predict(x) as tf.Tensor)).toEqual(before);
      expect(JSON.stringify(loaded.layers[0].getConfig())).toBe(JSON.stringify(layer.getConfig()));
      model.dispose();
      loaded.dispose();
    });

    for (const attention of ['flash', 'standard'] as const) {
      it(`drops probabilities in training only, and the same with the same seed, with ${attention} attention`, async () => {
        const x = queryInput();
        const make = () => makeLayer({dropout: 0.5, seed: 3, attention}, [x]);
        const [layer, again, without] = [make(), make(), makeLayer({attention}, [x])];
        const outputOf = (each: FlashMultiHeadAttention, training: boolean) =>
          valuesOf(each.apply(x, {training}) as tf.Tensor);
        const [first, second] = [await outputOf(layer, true), await outputOf(layer, true)];
        expect(await outputOf(layer, false)).toEqual(await outputOf(without, true));
        expect(worstError(first, await outputOf(layer, false))).toBeGreaterThan(0.1);
        expect(worstError(first, second)).toBeGreaterThan(0.1);
        expect(await outputOf(again, true)).toEqual(first);
        for (const each of [layer, again, without]) each.dispose();
      });
    }

    it('starts from its kernels with low-rank additions, trains only these, and merges them', async () => {
      const x = queryInput();
      const {layer, model} = selfModel({loraRank: 2, loraAlpha: 4});
      const isLowRank = (name: string) => name.includes('/lora_');
      const before = await weightsByName(layer);
      const start = await valuesOf(model.predict(x) as tf.Tensor);
      const [query] = [await toHost(x)];
      const kernelsOnly = Object.fromEntries(Object.entries(before).filter(([name]) => !isLowRank(name)));
      const problem = {query, value: query, key: query};
      expectWithin('at the start', start, exactAttention({...problem, weights: kernelsOnly}), 1e-5);

      const optimizer = tf.train.sgd(0.5);
      model.compile({optimizer, loss: 'meanSquaredError'});
      await model.fit(x, tf.reverse(x, 1), {epochs: 3, verbose: 0});
      const trained = await weightsByName(layer);
      const changed = Object.keys(before).filter(
        (name) => worstError(trained[name].values, before[name].values) > 1e-4,
      );
      expect(changed.filter((name) => !isLowRank(name))).toEqual([]);
      expect(changed).toContain('query/lora_b');
      expect(changed).toContain('attention_output/lora_a');

      const adapted = await valuesOf(model.predict(x) as tf.Tensor);
      expect(worstError(adapted, start)).toBeGreaterThan(1e-2);
      layer.mergeLora();
      expectWithin('merged', await valuesOf(model.predict(x) as tf.Tensor), adapted, 1e-5);
      expect(layer.trainableWeights.map(attentionWeightName)).toEqual(Object.keys(kernelsOnly));
      expect(layer.getConfig().loraRank).toBeNull();
      optimizer.dispose();
      model.dispose();
    });

    it('hides keys that an embedding masks, of the query and of another value', async () => {
      const [queryTokens, valueTokens] = [tfl.input({shape: [Sq]}), tfl.input({shape: [Sk]})];
      const embedding = tfl.layers.embedding({inputDim: 10, outputDim: inputs, maskZero: true});
      const [self, cross] = [flashMultiHeadAttention(sizes), flashMultiHeadAttention(sizes)];
      const query = embedding.apply(queryTokens) as tfl.SymbolicTensor;
      const value = embedding.apply(valueTokens) as tfl.SymbolicTensor;
      const outputs = [self.apply([query, query]), cross.apply([query, value])] as tfl.SymbolicTensor[];
      const model = tfl.model({inputs: [queryTokens, valueTokens], outputs});
      randomizeWeights(self);
      randomizeWeights(cross);
      const queries = [
        [1, 2, 3, 0, 0, 0],
        [4, 5, 6, 7, 8, 9],
      ];
      const values = [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [9, 8, 7, 6, 5, 0, 0, 0, 0],
      ];
      const predicted = model.predict([tf.tensor2d(queries), tf.tensor2d(values)]) as tf.Tensor[];
      const table = embedding.getWeights()[0];
      const embedded = async (tokens: number[][]) => toHost(tf.gather(table, tf.tensor2d(tokens, undefined, 'int32')));
      const [q, v] = [await embedded(queries), await embedded(values)];
      const exact = [
        exactAttention({
          ...{query: q, value: q, key: q, weights: await weightsByName(self)},
          isVisible: (b, _h, _i, j) => queries[b][j] !== 0,
        }),
        exactAttention({
          ...{query: q, value: v, key: v, weights: await weightsByName(cross)},
          isVisible: (b, _h, _i, j) => values[b][j] !== 0,
        }),
      ];
      expectWithin('self-attention', await predicted[0].data(), exact[0], 1e-5);
      expectWithin('cross-attention', await predicted[1].data(), exact[1], 1e-5);
      model.dispose();
      // The model counts as one user of it, and it has two.
      embedding.dispose();
    });

    it('does not free an input that it is given twice and that another layer reads later', async () => {
      const input = tfl.input({shape: [Sq, inputs]});
      const x = tfl.layers.activation({activation: 'linear'}).apply(input) as tfl.SymbolicTensor;
      const attended = flashMultiHeadAttention(sizes).apply([x, x, x]) as tfl.SymbolicTensor;
      const outputs = tfl.layers.add().apply([attended, x]) as tfl.SymbolicTensor;
      const model = tfl.model({inputs: input, outputs});
      expect((model.predict(queryInput()) as tf.Tensor).shape).toEqual([B, Sq, inputs]);
      model.dispose();
    });

    it('takes masks as keyword arguments', async () => {
      const [x, value] = [queryInput(), valuesInput()];
      const byInput = makeLayer({}, [x, value, value, maskOf('bool')]);
      const byKeyword = makeLayer({}, [x, value]);
      const expected = await valuesOf(byInput.apply([x, value, value, maskOf('bool')]) as tf.Tensor);
      const actual = byKeyword.apply([x, value], {attentionMask: maskOf('float32')}) as tf.Tensor;
      expect(await valuesOf(actual)).toEqual(expected);
      byInput.dispose();
      byKeyword.dispose();
    });
  },
  onCpu,
);

describe('flashMultiHeadAttention refuses', () => {
  const refused: [Record<string, unknown>, RegExp][] = [
    [{numHeads: 0}, /numHeads must be a positive integer, got 0/],
    [{keyDim: 257}, /keyDim must be a positive integer up to 256, got 257/],
    [{numKvHeads: 3}, /multiple of numKvHeads, got 4 and 3/],
    [{dropout: 1}, /dropout must be at least 0 and below 1, got 1/],
    [{keyDim: 3, rotary: true}, /keyDim must be even for rotary, got 3/],
    [{rotary: {base: 0}}, /rotary.base must be a positive number, got 0/],
    [{attention: 'fast'}, /attention must be 'flash' or 'standard', got 'fast'/],
    [{precision: 'half'}, /precision must be 'highest' or 'fast', got 'half'/],
    [{layout: {pattern: 'checkers'}}, /layout.pattern must be one of .*, got 'checkers'/],
    [{attentionAxes: [1, 2]}, /attentionAxes is not supported other than \[1\], got \[1,2\]/],
    [{kernelConstraint: 'maxNorm'}, /kernelConstraint is not supported, got "maxNorm"/],
    [{outputShape: [2, 3]}, /outputShape must be a number, got \[2,3\]/],
    [{inputNames: ['value', 'query']}, /inputNames must be 'query' and then/],
    [{loraRank: 0.5}, /loraRank must be a positive integer, got 0.5/],
  ];
  for (const [args, message] of refused) {
    it(JSON.stringify(args), () => {
      expect(() => flashMultiHeadAttention({...sizes, ...args})).toThrowError(message);
    });
  }

  it("what is null or Keras's default is taken", () => {
    const nothing: object = {attentionAxes: [1], kernelConstraint: null, seed: null, flashAttention: null, scale: null};
    expect(flashMultiHeadAttention({...sizes, ...nothing}).getConfig().seed).toBeNull();
  });
});
