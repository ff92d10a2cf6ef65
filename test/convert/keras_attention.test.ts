/** Models in the format of Keras 2 that contain MultiHeadAttention, loaded and compared with float64. */
import * as core from '@tensorflow/tfjs-core';
import {rewriteKerasAttention} from '../../src/convert/keras_attention.js';
import {MultiHeadAttention} from '../../src/layers/index.js';
import * as tf from '../../src/tf.js';
import type {HostTensor} from '../attention_inputs.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {type AttentionProblem, exactAttention, toHost} from '../layers/exact_attention.js';

const [B, Sq, Sk, H, D, width] = [2, 3, 4, 2, 5, 6];
type Reference = [layer: string, node: number, tensor: number];

const weightShapes: Record<string, number[]> = {
  'query/kernel': [width, H, D],
  'query/bias': [H, D],
  'key/kernel': [width, H, D],
  'key/bias': [H, D],
  'value/kernel': [width, H, D],
  'value/bias': [H, D],
  'attention_output/kernel': [H, D, width],
  'attention_output/bias': [width],
};

/** An input of Keras's model, as model.json has it. */
function inputLayer(name: string, shape: number[], dtype = 'float32') {
  const config = {batch_input_shape: [null, ...shape], dtype, sparse: false, ragged: false, name};
  return {class_name: 'InputLayer', config, name, inbound_nodes: []};
}

/** Keras's layer, as Keras 2.15 writes it after it was built. */
function attentionLayer(name: string, query: Reference, keywords: object, more: object = {}) {
  const config = {
    ...{name, trainable: true, dtype: 'float32', num_heads: H, key_dim: D, value_dim: D, dropout: 0, use_bias: true},
    ...{output_shape: null, attention_axes: [1]},
    kernel_initializer: {class_name: 'GlorotUniform', config: {seed: null}},
    bias_initializer: {class_name: 'Zeros', config: {}},
    ...{kernel_regularizer: null, bias_regularizer: null, activity_regularizer: null},
    ...{kernel_constraint: null, bias_constraint: null},
    ...{query_shape: [null, Sq, width], key_shape: [null, Sk, width], value_shape: [null, Sk, width]},
    ...more,
  };
  return {class_name: 'MultiHeadAttention', config, name, inbound_nodes: [[[...query, keywords]]]};
}

type LayerJson = ReturnType<typeof attentionLayer> | ReturnType<typeof inputLayer>;

function topologyOf(layers: LayerJson[], outputs: Reference[]) {
  const inputs = layers.filter(({class_name}) => class_name === 'InputLayer').map(({name}) => [name, 0, 0]);
  const config = {name: 'model', trainable: true, layers, input_layers: inputs, output_layers: outputs};
  return {
    keras_version: '2.15.0',
    backend: 'tensorflow',
    model_config: {class_name: 'Functional', config},
  };
}

/** Weights of each attention layer, as the converter writes them beside model.json. */
function artifactsOf(topology: ReturnType<typeof topologyOf>) {
  const names = topology.model_config.config.layers
    .filter(({class_name}) => class_name === 'MultiHeadAttention')
    .flatMap(({name}) => Object.keys(weightShapes).map((weight) => ({layer: name, weight})));
  const specs = names.map(({layer, weight}) => ({
    name: `${layer}/${weight}`,
    shape: weightShapes[weight],
    dtype: 'float32' as const,
  }));
  const count = specs.reduce((sum, {shape}) => sum + core.util.sizeFromShape(shape), 0);
  const values = Float32Array.from({length: count}, (_, i) => Math.sin(3 * i + 1) / 2);
  const byLayer: Record<string, Record<string, HostTensor>> = {};
  let start = 0;
  for (const [i, {layer, weight}] of names.entries()) {
    const {shape} = specs[i];
    const end = start + core.util.sizeFromShape(shape);
    byLayer[layer] = {...byLayer[layer], [weight]: {shape, values: values.slice(start, end)}};
    start = end;
  }
  const handler = tf.io.fromMemory({modelTopology: topology, weightSpecs: specs, weightData: values.buffer});
  return {handler, byLayer};
}

const normal = (shape: number[], seed: number) => core.randomNormal(shape, 0, 1, 'float32', seed);
const x: Reference = ['x', 0, 0];
const y: Reference = ['y', 0, 0];
const maskInput: Reference = ['mask', 0, 0];
const visible = (b: number, i: number, j: number) => (b + i + j) % 3 > 0 || j === 0;

interface KerasCase {
  name: string;
  keywords: object;
  isVisible?: AttentionProblem['isVisible'];
  value?: boolean;
  mask?: boolean;
}

const kerasCases: KerasCase[] = [
  {name: 'mha(x, x)', keywords: {value: x}},
  {
    name: 'mha(x, x, x, use_causal_mask=True)',
    keywords: {value: x, key: x, use_causal_mask: true, training: null},
    isVisible: (_b, _h, i, j) => j <= i,
  },
  {name: 'mha(x, y)', keywords: {value: y, return_attention_scores: false}, value: true},
  {
    name: 'mha(x, y, use_causal_mask=True)',
    keywords: {value: y, use_causal_mask: true},
    value: true,
    isVisible: (_b, _h, i, j) => j <= i,
  },
  {
    name: 'mha(x, y, key=y, attention_mask=mask)',
    keywords: {value: y, key: y, attention_mask: maskInput},
    value: true,
    mask: true,
    isVisible: (b, _h, i, j) => visible(b, i, j),
  },
];

async function expectLoadedRight({keywords, isVisible, value: hasValue, mask: hasMask}: KerasCase): Promise<void> {
  const topology = topologyOf(
    [
      inputLayer('x', [Sq, width]),
      ...(hasValue ? [inputLayer('y', [Sk, width])] : []),
      ...(hasMask ? [inputLayer('mask', [Sq, Sk], 'bool')] : []),
      attentionLayer('multi_head_attention', x, keywords),
    ],
    [['multi_head_attention', 0, 0]],
  );
  const {handler, byLayer} = artifactsOf(topology);
  const model = await tf.loadLayersModel(handler);
  const [query, value] = [normal([B, Sq, width], 1), normal([B, Sk, width], 2)];
  const mask = Array.from({length: B * Sq * Sk}, (_, at) =>
    Number(visible(Math.floor(at / (Sq * Sk)), Math.floor(at / Sk) % Sq, at % Sk)),
  );
  const inputs = [query, ...(hasValue ? [value] : []), ...(hasMask ? [core.tensor(mask, [B, Sq, Sk], 'bool')] : [])];
  const output = model.predict(inputs) as tf.Tensor;
  const [q, v] = [await toHost(query), await toHost(hasValue ? value : query)];
  const exact = exactAttention({query: q, value: v, key: v, weights: byLayer.multi_head_attention, isVisible});
  expect(output.shape).toEqual([B, Sq, width]);
  expectWithin('output', await output.data(), exact, 1e-5);
  model.dispose();
}

describeOnBackends('A Keras model with MultiHeadAttention is loaded right on each backend', () => {
  it(kerasCases[4].name, () => expectLoadedRight(kerasCases[4]));
});

describeOnBackends(
  'A Keras model with MultiHeadAttention is loaded',
  () => {
    for (const kerasCase of kerasCases) it(kerasCase.name, () => expectLoadedRight(kerasCase));

    it('with several layers, and saved and loaded again by tfjs itself', async () => {
      const topology = topologyOf(
        [
          inputLayer('x', [Sq, width]),
          inputLayer('y', [Sk, width]),
          attentionLayer('self_attention', x, {value: x, use_causal_mask: true}),
          attentionLayer('cross', ['self_attention', 0, 0], {value: y}),
        ],
        [['cross', 0, 0]],
      );
      const {handler, byLayer} = artifactsOf(topology);
      const model = await tf.loadLayersModel(handler);
      expect(model.layers[3]).toBeInstanceOf(MultiHeadAttention);
      const [query, value] = [normal([B, Sq, width], 1), normal([B, Sk, width], 2)];
      const [q, v] = [await toHost(query), await toHost(value)];
      const middle = exactAttention({
        ...{query: q, value: q, key: q, weights: byLayer.self_attention},
        isVisible: (_b, _h, i, j) => j <= i,
      });
      const middleHost = {shape: q.shape, values: Float32Array.from(middle)};
      const exact = exactAttention({query: middleHost, value: v, key: v, weights: byLayer.cross});
      const output = await (model.predict([query, value]) as tf.Tensor).data();
      expectWithin('output', output, exact, 1e-5);

      let saved: tf.io.ModelArtifacts = {};
      await model.save(
        tf.io.withSaveHandler(async (artifacts) => {
          saved = {...artifacts, modelTopology: JSON.parse(JSON.stringify(artifacts.modelTopology))};
          return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
        }),
      );
      // tfjs's own function does not rewrite calls, and need not.
      const {loadLayersModel} = await import('@tensorflow/tfjs-layers');
      for (const load of [loadLayersModel, tf.loadLayersModel]) {
        const again = await load(tf.io.fromMemory(saved));
        expect(Array.from(await (again.predict([query, value]) as tf.Tensor).data())).toEqual(Array.from(output));
        again.dispose();
      }
      model.dispose();
    });
  },
  {predicate: ({backendName}) => backendName === 'cpu'},
);

describe('loadLayersModel', () => {
  const load = (layer: ReturnType<typeof attentionLayer>) =>
    tf.loadLayersModel(artifactsOf(topologyOf([inputLayer('x', [Sq, width]), layer], [[layer.name, 0, 0]])).handler);

  const refused: [string, object, RegExp][] = [
    [
      'attention scores',
      {value: x, return_attention_scores: true},
      /layer mha .* return_attention_scores: true, which/,
    ],
    ['constant masks', {value: x, attention_mask: [[true, false]]}, /layer mha .* attention_mask, a constant/],
    ['unknown keywords', {value: x, query_mask: x}, /layer mha .* is called with query_mask, which is not supported/],
    ['constant dropout', {value: x, training: true}, /layer mha .* training: true, which is not supported/],
  ];
  for (const [what, keywords, message] of refused) {
    it(`refuses ${what}`, async () => {
      await expectAsync(load(attentionLayer('mha', x, keywords))).toBeRejectedWithError(message);
    });
  }

  it('refuses attention axes', async () => {
    const layer = attentionLayer('mha', x, {value: x}, {attention_axes: [1, 2]});
    await expectAsync(load(layer)).toBeRejectedWithError(/attentionAxes is not supported other than \[1\]/);
  });

  it('refuses a layer that is called in two ways', async () => {
    const layer = attentionLayer('mha', x, {value: x});
    layer.inbound_nodes.push([[...x, {value: x, use_causal_mask: true}]]);
    const ways = /called with different arguments, .*: query; query, use_causal_mask\./;
    await expectAsync(load(layer)).toBeRejectedWithError(ways);
  });

  it('finds attention in models within models, and leaves the file as it was', () => {
    const inner = topologyOf([inputLayer('x', [Sq, width]), attentionLayer('mha', x, {value: x})], [['mha', 0, 0]]);
    const nested = {class_name: 'Sequential', config: {name: 'outer', layers: [inner.model_config]}};
    const before = JSON.stringify(nested);
    const rewritten = rewriteKerasAttention(nested) as typeof nested;
    const {config, inbound_nodes} = rewritten.config.layers[0].config.layers[1];
    expect(inbound_nodes).toEqual([[['x', 0, 0]]]);
    expect(config).toEqual(jasmine.objectContaining({input_names: ['query'], use_causal_mask: false}));
    expect(JSON.stringify(nested)).toBe(before);
  });

  it('takes addresses, and says what tfjs says where there is nothing to load', async () => {
    await expectAsync(tf.loadLayersModel('indexeddb://nothing-was-saved-here')).toBeRejectedWithError(
      /Cannot find model/,
    );
    await expectAsync(tf.loadLayersModel({})).toBeRejectedWithError(/does not have the `load` method/);
  });
});
