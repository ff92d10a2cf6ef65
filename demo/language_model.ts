/**
 * Models as the page hands them around: their topology and weights beside the GPU, from which one with other attention,
 * another feed-forward net or LoRA can be opened.
 */
import * as tf from '../src/tf.js';
import {Problem} from './problem.js';
import type {TokenizerDescription} from './tokenizer.js';

/** A model that lies in main memory. */
export interface ModelFiles {
  /** What the page calls it. */
  name: string;
  artifacts: Artifacts;
  tokenizer: TokenizerDescription;
}

/** The part of tfjs's artifacts that makes a model; plain data, which IndexedDB keeps. */
export interface Artifacts {
  modelTopology: object;
  weightSpecs: tf.io.WeightsManifestEntry[];
  weightData: ArrayBuffer;
}

export const attentionLabels = {flash: 'Flash', standard: 'Standard', butterfly: 'Butterfly block-sparse'} as const;
export const mlpLabels = {dense: 'Dense', pixelfly: 'Pixelfly', monarch: 'Monarch'} as const;
export type AttentionKind = keyof typeof attentionLabels;
export type MlpKind = keyof typeof mlpLabels;

/** How a model is opened. */
export interface Variant {
  attention: AttentionKind;
  mlp: MlpKind;
  /** Undefined: all weights are trained. */
  loraRank?: number;
  /** Tokens in a stretch of training text, which decides the size of blocks. */
  context: number;
}

interface LayerJson {
  class_name: string;
  config: Record<string, unknown>;
}

/** Sizes and kinds of a model, read from its topology. */
export interface Sizes {
  layers: number;
  heads: number;
  width: number;
  /** The most tokens that it sees. */
  contextLength: number;
  vocabSize: number;
  mlp: MlpKind;
  loraRank: number | undefined;
}

export function sizesOf({modelTopology}: Artifacts): Sizes {
  const all = layersOf(modelTopology);
  const blocks = all.filter(isBlock).map(({config}) => config);
  const embedding = all.find(({class_name}) => class_name === 'TokenEmbedding')?.config;
  if (!embedding || blocks.length === 0) {
    throw new Problem('This model is no language model made by tf.gpt. Choose the files that this page downloaded.');
  }
  const [{num_heads, context_length, mlp, lora_rank}] = blocks;
  return {
    layers: blocks.length,
    heads: num_heads as number,
    width: embedding.width as number,
    contextLength: context_length as number,
    vocabSize: embedding.vocab_size as number,
    mlp: mlp as MlpKind,
    loraRank: (lora_rank as number | null) ?? undefined,
  };
}

/**
 * Opens a model on the active backend. Attention has the same weights whatever its kind; a dense feed-forward net is
 * projected to the structured one nearest to it; LoRA's additions start from 0, and those of the files become part of the
 * weights where other ones, or none, are asked for.
 */
async function openModel(artifacts: Artifacts, variant: Variant): Promise<tf.LayersModel> {
  const {mlp, loraRank, width} = sizesOf(artifacts);
  if (mlp !== variant.mlp && mlp !== 'dense') {
    throw new Problem(
      `This model’s feed-forward net is ${mlpLabels[mlp]}, which cannot become ${mlpLabels[variant.mlp]}.`,
    );
  }
  if (loraRank !== undefined && loraRank !== variant.loraRank) return openModel(await withoutLora(artifacts), variant);
  const modelTopology = withVariant(artifacts.modelTopology, variant);
  // Weights that the files do not have are those of LoRA, which have their own first values.
  const model = await tf.loadLayersModel({load: async () => ({...artifacts, modelTopology})}, {strict: false});
  return mlp === variant.mlp ? model : sparsified(model, variant.mlp, width);
}

/** Opens a model for a while. */
export async function withModel(
  {artifacts}: ModelFiles,
  variant: Variant,
  use: (model: tf.LayersModel) => Promise<void>,
): Promise<void> {
  const model = await openModel(artifacts, variant);
  try {
    await use(model);
  } finally {
    model.dispose();
  }
}

/** Brings a model's weights to main memory. */
export async function artifactsOf(model: tf.LayersModel): Promise<Artifacts> {
  let artifacts: Artifacts | undefined;
  await model.save(
    tf.io.withSaveHandler(async ({modelTopology, weightSpecs, weightData}) => {
      artifacts = {
        modelTopology: modelTopology as object,
        weightSpecs: weightSpecs ?? [],
        weightData: tf.io.CompositeArrayBuffer.join(weightData),
      };
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  return artifacts as Artifacts;
}

/** Variables that training changes. */
export function trainedVariables(model: tf.LayersModel): tf.Variable[] {
  return model.trainableWeights.map((weight) => weight.read() as tf.Variable);
}

async function withoutLora(artifacts: Artifacts): Promise<Artifacts> {
  const model = await tf.loadLayersModel({load: async () => artifacts});
  for (const layer of model.layers) if (layer instanceof tf.TransformerBlock) layer.mergeLora();
  const merged = await artifactsOf(model);
  model.dispose();
  return merged;
}

function layersOf(topology: object): LayerJson[] {
  const {model_config: config = topology} = topology as {model_config?: object};
  const layers = (config as {config?: {layers?: LayerJson[]}}).config?.layers;
  return Array.isArray(layers) ? layers : [];
}

function isBlock({class_name}: LayerJson): boolean {
  return class_name === 'TransformerBlock';
}

/** With another attention and LoRA; the feed-forward nets stay. */
function withVariant(topology: object, {attention, loraRank, context}: Variant): object {
  const copy = structuredClone(topology);
  for (const layer of layersOf(copy)) {
    if (isBlock(layer)) {
      Object.assign(layer.config, {
        attention: attention === 'standard' ? 'standard' : 'flash',
        attention_layout: attention === 'butterfly' ? {pattern: 'butterfly', blockSize: blockSizeFor(context)} : null,
        lora_rank: loraRank ?? null,
      });
    } else {
      // With LoRA nothing else is trained; blocks see to that themselves.
      layer.config.trainable = loraRank === undefined;
    }
  }
  return copy;
}

/** So small that even short contexts have dead blocks, and as large as is fast. */
function blockSizeFor(context: number): number {
  return context >= 512 ? 64 : context >= 256 ? 32 : 16;
}

/** The model with the structured feed-forward nets nearest to its dense ones, in whose place it comes. */
async function sparsified(model: tf.LayersModel, mlp: MlpKind, width: number): Promise<tf.LayersModel> {
  try {
    const {model: sparse, layers} = await tf.sparsify(model, sparsifyOptions(mlp, width));
    if (layers.length > 0) return sparse;
    sparse.dispose();
    throw new Problem(`This model is too narrow for a ${mlpLabels[mlp]} feed-forward net. Choose the dense one.`);
  } finally {
    model.dispose();
  }
}

/** A quarter of a dense net's weights; narrow layers need small blocks for that. */
function sparsifyOptions(mlp: MlpKind, width: number): tf.SparsifyOptions {
  return mlp === 'pixelfly' ? {to: mlp, density: 0.25, blockSize: width >= 128 ? 32 : 8} : {to: 'monarch'};
}
