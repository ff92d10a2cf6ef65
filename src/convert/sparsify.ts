/** Models whose dense layers are replaced by ones with structured matrices. */
import {norm, type serialization, type Tensor, tidy} from '@tensorflow/tfjs-core';
import {LayersModel, type LayerVariable, type layers} from '@tensorflow/tfjs-layers';
import {argsOfDense, type ProjectingLayer, projectDense, weightsOfDense} from '../layers/from_dense.js';
import {MonarchDense, type MonarchDenseArgs, monarchParameters} from '../layers/monarch_dense.js';
import {PixelflyDense, type PixelflyMatrixOptions, pixelflyParameters} from '../layers/pixelfly_dense.js';

/** Options of {@link sparsify}: which layers, by what, and the options of that which choose its matrix. */
export type SparsifyOptions = {
  /**
   * The layers to replace. Names; a layer of a model inside of the model has the name 'model/layer'. Or a function that is
   * asked about every dense layer. Default: every dense layer from 64 inputs or more to 64 units or more that gets fewer
   * parameters.
   */
  layers?: string[] | ((layer: layers.Layer, path: string) => boolean);
} & (({to: 'monarch'} & Pick<MonarchDenseArgs, 'blocks'>) | ({to: 'pixelfly'} & PixelflyMatrixOptions));

/** What became of a layer. */
export interface SparsifiedLayer {
  /** The layer's name; in a model inside of the model, 'model/layer'. */
  name: string;
  parametersBefore: number;
  parametersAfter: number;
  /** ‖W − W'‖ / ‖W‖ of the kernels W, in the Frobenius norm. */
  relativeError: number;
}

/** What {@link sparsify} returns. */
export interface SparsifiedModel<M extends LayersModel = LayersModel> {
  /** Not compiled. */
  model: M;
  layers: SparsifiedLayer[];
}

/**
 * What a layer that has dense layers inside offers, so that {@link sparsify} replaces these: it is chosen like a dense
 * layer, and by default asked every time.
 */
export interface Sparsifiable {
  /**
   * The configuration, of the same name and class, of a layer with structured matrices in place of dense ones; undefined
   * where nothing would change.
   */
  sparsifiedConfig(options: SparsifyOptions): serialization.ConfigDict | undefined;
  /**
   * Called on the layer made from that configuration, when it is built and its weights are 0: takes all weights from the
   * original, projected where they must be.
   */
  takeFrom(original: layers.Layer): Promise<SparsifiedLayer[]>;
}

/** Of smaller sides, a product takes no time worth saving. */
const LEAST_SIDE = 64;

/**
 * A copy of a model in which dense layers are replaced by {@link monarchDense} or {@link pixelflyDense} layers of the
 * nearest matrix, from where fine-tuning can go on. Names of layers, activations, biases, regularizers, shared layers,
 * what is trainable, and all other weights are as in the model, which stays untouched. Dense layers inside of models that
 * are layers are found too, and the feed-forward nets of {@link transformerBlock} and so of {@link gpt}; those inside of other
 * layers (TimeDistributed) are not.
 *
 * Projections run on the host, and take seconds, or up to half a minute, for a layer of thousands of inputs or units.
 *
 * Source: Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training" (2022, arXiv
 * 2204.00595), section 3.3, dense-to-sparse fine-tuning; for pixelfly, `pixelflyProject`.
 *
 * ```js
 * const dense = tf.sequential();
 * dense.add(tf.layers.dense({units: 64, activation: 'relu', inputShape: [64], name: 'hidden'}));
 * dense.add(tf.layers.dense({units: 3}));
 * const {model, layers} = await tf.sparsify(dense, {to: 'monarch', blocks: 4});
 * const [{name, parametersBefore, parametersAfter}] = layers;
 * console.log([name, parametersBefore, parametersAfter]); // [hidden, 4160, 2112]
 * model.compile({optimizer: 'adam', loss: 'meanSquaredError'});
 * await model.fit(tf.ones([8, 64]), tf.ones([8, 3]), {epochs: 1, verbose: 0});
 * ```
 *
 * @param model of `tf.sequential`, `tf.model` or `tf.loadLayersModel`.
 * @param options see {@link SparsifyOptions}.
 * @returns the new model, and for each layer that was replaced how large and how near it is.
 * @throws Error that names a layer which is missing or not dense, or an option that does not fit.
 */
export async function sparsify<M extends LayersModel>(model: M, options: SparsifyOptions): Promise<SparsifiedModel<M>> {
  if (!(model instanceof LayersModel)) {
    throw new Error('sparsify: model must be a layers model, as tf.sequential, tf.model and tf.loadLayersModel make.');
  }
  const replacements: Replacements = new Map();
  for (const layer of chosenLayers(model, options)) {
    const replacement = replacementConfig(layer, options);
    if (replacement) replacements.set(layer, replacement);
  }
  const modelClass = model.constructor as unknown as ModelClass<M>;
  // Weights are 0 at first, because all of them will be set.
  const result = modelClass.fromConfig(modelClass, configOf(model, replacements), {}, true);
  try {
    return {model: result, layers: await takeWeights(model, result, replacements)};
  } catch (error) {
    result.dispose();
    throw error;
  }
}

interface ModelClass<M> {
  fromConfig(
    modelClass: ModelClass<M>,
    config: serialization.ConfigDict,
    customObjects: serialization.ConfigDict,
    fastWeightInit: boolean,
  ): M;
}

interface LayerConfig {
  className: string;
  config: serialization.ConfigDict;
}

/** What takes the place of which layer. */
type Replacements = Map<layers.Layer, LayerConfig>;

function* layersWithPaths(model: LayersModel, prefix = ''): Generator<{layer: layers.Layer; path: string}> {
  for (const layer of model.layers) {
    const path = prefix + layer.name;
    yield {layer, path};
    if (layer instanceof LayersModel) yield* layersWithPaths(layer, `${path}/`);
  }
}

function isDense(layer: layers.Layer): boolean {
  return layer.getClassName() === 'Dense';
}

function isSparsifiable(layer: layers.Layer): layer is layers.Layer & Sparsifiable {
  return 'sparsifiedConfig' in layer && 'takeFrom' in layer;
}

function chosenLayers(model: LayersModel, options: SparsifyOptions): Set<layers.Layer> {
  const all = [...layersWithPaths(model)];
  const replaceable = all.filter(({layer}) => isDense(layer) || isSparsifiable(layer));
  const {layers: choice = (layer) => isSparsifiable(layer) || isWorthwhile(layer, options)} = options;
  if (typeof choice === 'function') {
    return new Set(replaceable.filter(({layer, path}) => choice(layer, path)).map(({layer}) => layer));
  }
  const byPath = new Map(all.map(({layer, path}) => [path, layer]));
  for (const path of choice) {
    const layer = byPath.get(path);
    const paths = replaceable.map((each) => each.path).join(', ') || 'none';
    if (!layer) {
      throw new Error(`sparsify: layers names '${path}', no layer of the model; its dense layers are: ${paths}.`);
    }
    if (!isDense(layer) && !isSparsifiable(layer)) {
      throw new Error(
        `sparsify: layers names '${path}', which is of class ${layer.getClassName()} and not dense; dense layers are: ${paths}.`,
      );
    }
  }
  return new Set(choice.map((path) => byPath.get(path) as layers.Layer));
}

/** Whether a dense layer has sides worth the trouble, and gets fewer parameters. */
export function isWorthwhile(dense: layers.Layer, options: SparsifyOptions): boolean {
  const [inputs, units] = weightsOfDense('sparsify', dense).kernel.shape;
  const parameters =
    options.to === 'monarch' ? monarchParameters(options, inputs, units) : pixelflyParameters(options, inputs, units);
  return Math.min(inputs, units) >= LEAST_SIDE && parameters !== undefined && parameters < inputs * units;
}

/** The configuration of what takes a layer's place; undefined where nothing does. */
function replacementConfig(layer: layers.Layer, options: SparsifyOptions): LayerConfig | undefined {
  if (isSparsifiable(layer)) {
    const config = layer.sparsifiedConfig(options);
    return config && {className: layer.getClassName(), config};
  }
  const structured = structuredLayer({...argsOfDense(layer), name: layer.name}, options);
  return {className: structured.getClassName(), config: structured.getConfig()};
}

function structuredLayer(args: ReturnType<typeof argsOfDense>, options: SparsifyOptions): ProjectingLayer {
  const {layers: _, to, ...matrix} = options;
  if (to === 'monarch') return new MonarchDense({...args, ...matrix});
  if (to === 'pixelfly') return new PixelflyDense({...args, ...matrix});
  throw new Error(`sparsify: to must be 'monarch' or 'pixelfly', got '${to}'.`);
}

/** A model's configuration, and the models' inside of it, with layers replaced. */
function configOf(model: LayersModel, replacements: Replacements): serialization.ConfigDict {
  const config = model.getConfig() as serialization.ConfigDict & {layers: LayerConfig[]};
  const layerConfigs = config.layers.map((entry) => {
    const layer = model.getLayer(entry.config.name as string);
    if (layer instanceof LayersModel) return {...entry, config: configOf(layer, replacements)};
    return {...entry, ...replacements.get(layer)};
  });
  return {...config, layers: layerConfigs as unknown as serialization.ConfigDictArray};
}

/** Fills a model of the same layers by name, some of them replaced. */
async function takeWeights(
  from: LayersModel,
  to: LayersModel,
  replacements: Replacements,
  prefix = '',
): Promise<SparsifiedLayer[]> {
  // This is no part of a model's configuration. To set it sets that of all weights, which comes below.
  if (to.trainable !== from.trainable) to.trainable = from.trainable;
  const taken: SparsifiedLayer[] = [];
  for (const layer of from.layers) {
    const next = to.getLayer(layer.name);
    const path = prefix + layer.name;
    if (layer instanceof LayersModel) {
      taken.push(...(await takeWeights(layer, next as LayersModel, replacements, `${path}/`)));
    } else if (!replacements.has(layer)) {
      copyWeights(layer, next);
    } else if (isSparsifiable(next)) {
      const inside = await next.takeFrom(layer);
      taken.push(...inside.map((each) => ({...each, name: `${path}/${each.name}`})));
    } else {
      taken.push(await takeProjection(layer, next as ProjectingLayer, path));
    }
  }
  return taken;
}

/** Gives a structured layer the matrix nearest to a dense one's. */
export async function takeProjection(
  dense: layers.Layer,
  layer: ProjectingLayer,
  name: string,
): Promise<SparsifiedLayer> {
  const distance = await projectDense('sparsify', dense, layer);
  const length = tidy(() => norm(weightsOfDense('sparsify', dense).kernel));
  const [kernelNorm] = await length.data();
  length.dispose();
  const [{trainable}] = inOrder(dense);
  for (const weight of layer.weights) weight.trainable = trainable;
  return {
    name,
    parametersBefore: dense.countParams(),
    parametersAfter: layer.countParams(),
    relativeError: kernelNorm > 0 ? distance / kernelNorm : 0,
  };
}

/** Gives a layer the weights of another of its kind. */
export function copyWeights(from: layers.Layer, to: layers.Layer): void {
  const weights = inOrder(from);
  for (const [i, weight] of inOrder(to).entries()) {
    weight.write(weights[i].read() as Tensor);
    weight.trainable = weights[i].trainable;
  }
}

/** Weights as they were made; `layer.weights` has those that are trainable first. */
function inOrder({weights}: layers.Layer): LayerVariable[] {
  return [...weights].sort((a, b) => a.id - b.id);
}
