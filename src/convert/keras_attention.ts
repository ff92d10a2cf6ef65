/**
 * Loading models with Keras's MultiHeadAttention. Keras calls the layer with keyword arguments, which tfjs-layers hands on
 * as the JSON that they are in the file: tensors by name. Here they become further inputs of the layer, and part of its
 * configuration.
 */
import {io} from '@tensorflow/tfjs-core';
import {type LayersModel, loadLayersModel as tfjsLoadLayersModel} from '@tensorflow/tfjs-layers';

/** Captured when this module starts: in a page with script tags the global name later means the function below. */
const loadWithTfjs = tfjsLoadLayersModel;

type TensorReference = [layer: string, node: number, tensor: number, keywords?: Keywords];
type Keywords = Record<string, unknown>;

/** A layer, or a model within a model, in the file. */
interface LayerJson {
  class_name?: string;
  name?: string;
  config?: LayerConfigJson | LayerJson[];
  inbound_nodes?: TensorReference[][];
}

interface LayerConfigJson extends Record<string, unknown> {
  name?: string;
  layers?: LayerJson[];
  input_names?: string[] | null;
}

/** One use of a layer. */
interface Call {
  names: string[];
  references: TensorReference[];
  useCausalMask: boolean;
}

const ATTENTION_CLASSES = ['MultiHeadAttention', 'FlashMultiHeadAttention'];
/** In the order in which they become inputs. */
const TENSOR_ARGUMENTS = ['query', 'value', 'key', 'attention_mask', 'value_mask', 'key_mask'];
/** Keyword arguments that ask for nothing when they have this value, and that cannot be obeyed otherwise. */
const REQUIRED_CONSTANTS: Keywords = {return_attention_scores: false, training: false};

/**
 * The topology of a Keras 2 model, as `tf.loadLayersModel` reads it, with the calls of MultiHeadAttention rewritten so that
 * tfjs understands them: tensors among the keyword arguments become inputs that the configuration's `input_names` names,
 * and `use_causal_mask` becomes part of the configuration. Other layers stay as they are.
 *
 * @param modelTopology `modelTopology` of model artifacts; it is not changed.
 * @throws Error that names the layer and the argument, for what the layer does not support.
 */
export function rewriteKerasAttention(modelTopology: object): object {
  const copy: LayerJson & {model_config?: LayerJson} = structuredClone(modelTopology);
  rewriteLayersOf(copy.model_config ?? copy);
  return copy;
}

function rewriteLayersOf(model: LayerJson): void {
  const layers = Array.isArray(model.config) ? model.config : (model.config?.layers ?? []);
  for (const layer of layers) {
    if (ATTENTION_CLASSES.includes(layer.class_name ?? '')) rewriteAttention(layer);
    else rewriteLayersOf(layer);
  }
}

function rewriteAttention(layer: LayerJson): void {
  const nodes = layer.inbound_nodes ?? [];
  if (nodes.every((node) => keywordsOf(node).length === 0)) return;
  const config = layer.config as LayerConfigJson;
  const fail = (message: string): never => {
    throw new Error(`loadLayersModel: layer ${layer.name ?? config.name} (${layer.class_name}) ${message}`);
  };
  const calls = nodes.map((node) => readCall(node, config.input_names ?? TENSOR_ARGUMENTS, fail));
  const describe = ({names, useCausalMask}: Call) => names.join(', ') + (useCausalMask ? ', use_causal_mask' : '');
  const ways = [...new Set(calls.map(describe))];
  if (ways.length > 1) fail(`is called with different arguments, which one layer cannot be: ${ways.join('; ')}.`);
  config.input_names = calls[0].names;
  config.use_causal_mask = calls[0].useCausalMask;
  layer.inbound_nodes = calls.map(({references}) => references);
}

/** Every tensor of a node carries all keyword arguments of the call; those that are null were not given. */
function keywordsOf(node: TensorReference[]): [string, unknown][] {
  return Object.entries(node[0]?.[3] ?? {}).filter(([, value]) => value !== null);
}

function readCall(node: TensorReference[], inputNames: string[], fail: (message: string) => never): Call {
  const given = new Map<string, TensorReference>();
  node.forEach(([layer, index, tensor], i) => {
    given.set(inputNames[i], [layer, index, tensor]);
  });
  let useCausalMask = false;
  for (const [name, value] of keywordsOf(node)) {
    if (name === 'use_causal_mask') useCausalMask = Boolean(value);
    else if (name in REQUIRED_CONSTANTS) {
      if (value !== REQUIRED_CONSTANTS[name]) fail(`is called with ${name}: ${value}, which is not supported.`);
    } else if (!TENSOR_ARGUMENTS.includes(name)) fail(`is called with ${name}, which is not supported.`);
    else if (!isReference(value)) fail(`is called with ${name}, a constant; only tensors of the model are supported.`);
    else given.set(name, value);
  }
  // tfjs frees an input too early in `predict` if a node has it twice, and the layer takes the query for the value,
  // and the value for the key, by default.
  const same = (a: string, b: string) => given.has(a) && String(given.get(a)) === String(given.get(b));
  if (same('key', given.has('value') ? 'value' : 'query')) given.delete('key');
  if (same('value', 'query')) given.delete('value');
  const names = TENSOR_ARGUMENTS.filter((name) => given.has(name));
  return {names, references: names.map((name) => given.get(name) as TensorReference), useCausalMask};
}

function isReference(value: unknown): value is TensorReference {
  return Array.isArray(value) && value.length >= 3 && typeof value[0] === 'string' && value[0] !== '_CONSTANT_VALUE';
}

/**
 * `tf.loadLayersModel`, which also loads models converted from Keras 2 that contain MultiHeadAttention: self-attention,
 * cross-attention, masks and causal masks, with their weights. They run on `flashAttention`.
 *
 * ```js
 * const layer = tf.layers.flashMultiHeadAttention({numHeads: 2, keyDim: 4, inputShape: [6, 8]});
 * const model = tf.sequential({layers: [layer]});
 * let saved;
 * await model.save(tf.io.withSaveHandler(async (artifacts) => {
 *   saved = artifacts;
 *   return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
 * }));
 * const loaded = await tf.loadLayersModel(tf.io.fromMemory(saved));
 * console.log(loaded.predict(tf.ones([1, 6, 8])).shape); // [1, 6, 8]
 * ```
 *
 * @param pathOrIOHandler as for tfjs's function: where model.json is, or a handler that loads it.
 * @param options as for tfjs's function.
 * @returns the model, with its weights.
 * @throws Error that names the layer and the argument, if an attention layer is called in a way that is not supported:
 *     with return_attention_scores, constant masks, or in different ways at different places.
 */
export async function loadLayersModel(
  pathOrIOHandler: string | io.IOHandler,
  options?: io.LoadOptions,
): Promise<LayersModel> {
  const handler = typeof pathOrIOHandler === 'string' ? handlerOf(pathOrIOHandler, options) : pathOrIOHandler;
  // Without a loader there is nothing to rewrite, and tfjs says what is wrong.
  if (!handler?.load) return loadWithTfjs(pathOrIOHandler, options);
  const load = async () => {
    const artifacts = await (handler as Required<io.IOHandler>).load();
    const {modelTopology} = artifacts;
    return modelTopology ? {...artifacts, modelTopology: rewriteKerasAttention(modelTopology)} : artifacts;
  };
  return loadWithTfjs({load}, options);
}

/** What tfjs chooses for a path; absent if it cannot. */
function handlerOf(path: string, options: io.LoadOptions | undefined): io.IOHandler | undefined {
  const handlers = io.getLoadHandlers(path, options);
  if (handlers.length === 0) return io.browserHTTPRequest(path, options);
  return handlers.length === 1 ? (handlers[0] as io.IOHandler) : undefined;
}
