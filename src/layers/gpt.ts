/** The model `gpt`: a language model of GPT-2's architecture. */
import {serialization} from '@tensorflow/tfjs-core';
import {initializers, input, LayersModel, layers, type SymbolicTensor} from '@tensorflow/tfjs-layers';
import {languageModelLoss} from '../ops/language_model_loss.js';
import {fusedLayerNorm} from './fused_layer_norm.js';
import {positionEmbedding} from './position_embedding.js';
import {tokenEmbedding} from './token_embedding.js';
import {type TransformerBlockArgs, transformerBlock} from './transformer_block.js';

/** Options of {@link gpt}; those of `transformerBlock` mean what they mean there. */
export interface GptArgs
  extends Pick<
    TransformerBlockArgs,
    | 'attention'
    | 'attentionPrecision'
    | 'attentionLayout'
    | 'mlp'
    | 'mlpOptions'
    | 'mlpUnits'
    | 'activation'
    | 'dropout'
    | 'loraRank'
    | 'loraAlpha'
    | 'numKvHeads'
    | 'epsilon'
    | 'useBias'
  > {
  /** Blocks. */
  layers: number;
  /** H, heads of attention, of which `width` is a multiple. */
  heads: number;
  /** W, elements of a token's vector. */
  width: number;
  /** The longest sequence that the model takes. */
  contextLength: number;
  /** V: tokens are the integers from 0 to V − 1. */
  vocabSize: number;
  /** How places are told: 'learned' (default), by an embedding that is added, or 'rotary', by turning queries and keys. */
  position?: 'learned' | 'rotary';
  /** Whether the logits are products with the token embedding, or those of a layer of their own. Default true. */
  tied?: boolean;
  /** Makes first weights and dropout the same every time. */
  seed?: number;
}

/** Standard deviation of GPT-2's first weights. */
const DEVIATION = 0.02;
/** Seeds that a block may use. */
const SEEDS_PER_BLOCK = 100;

/**
 * A `tf.LayersModel` that `fit` trains on targets [B, S] where the loss is {@link languageModelLoss}: tfjs would insist on
 * targets of the shape of the logits.
 */
export class LanguageModel extends LayersModel {
  static override className = 'LanguageModel';

  override compile(args: Parameters<LayersModel['compile']>[0]): void {
    super.compile(args);
    // Where it finds null, tfjs does not check the targets; the loss does.
    if (args.loss === languageModelLoss) Object.assign(this, {feedOutputShapes: [null]});
  }
}

serialization.registerClass(LanguageModel);

/**
 * A language model of GPT-2's architecture, and by default with its initialization: a token embedding, to which learned
 * positions are added, blocks of causal attention and a feed-forward net, a normalization, and logits, which share the
 * token embedding's weight. For tokens [B, S], int32, S up to contextLength, it gives logits [B, S, V] for the token that
 * follows each.
 *
 * It trains with `model.fit` or step by step, is saved by `model.save` and loaded by `tf.loadLayersModel`, and writes with
 * {@link generate}. Its layers are token_embedding, position_embedding, embedding_dropout, block_0 and so on, final_norm
 * and head, where they exist.
 *
 * With `loraRank`, only LoRA's factors are trained.
 *
 * Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
 *
 * ```js
 * const model = tf.gpt({layers: 2, heads: 2, width: 16, contextLength: 8, vocabSize: 10, seed: 1});
 * model.compile({optimizer: tf.fusedAdam(0.01), loss: tf.languageModelLoss});
 * const text = tf.tensor2d([[1, 2, 3, 4, 5, 6, 7, 8, 9]], [1, 9], 'int32');
 * const [inputs, targets] = [text.slice([0, 0], [1, 8]), text.slice([0, 1], [1, 8])];
 * const {history} = await model.fit(inputs, targets, {epochs: 3, verbose: 0});
 * console.log(history.loss[2] < history.loss[0], model.predict(inputs).shape); // [true] [1, 8, 10]
 * model.dispose();
 * ```
 *
 * @param args see {@link GptArgs}.
 * @returns the model.
 * @throws Error that names the argument.
 */
export function gpt(args: GptArgs): LanguageModel {
  return buildGpt(args, false);
}

/**
 * {@link gpt}, or, for a loader that sets all weights but LoRA's, the same with zeros there: to draw a hundred million
 * random numbers takes many seconds.
 */
export function buildGpt(args: GptArgs, fastWeightInit: boolean): LanguageModel {
  for (const name of ['layers', 'heads', 'width', 'contextLength', 'vocabSize'] as const) {
    if (!Number.isInteger(args[name]) || args[name] < 1) {
      throw new Error(`gpt: ${name} must be an integer from 1 on, got ${args[name]}.`);
    }
  }
  const {width, heads, vocabSize, contextLength, seed, dropout = 0, position = 'learned', tied = true} = args;
  if (width % heads !== 0) throw new Error(`gpt: width must be a multiple of heads, got ${width} and ${heads}.`);
  if (position !== 'learned' && position !== 'rotary') {
    throw new Error(`gpt: position must be 'learned' or 'rotary', got '${position}'.`);
  }
  const trainable = args.loraRank === undefined;
  const normal = (shift: number) =>
    initializers.randomNormal({mean: 0, stddev: DEVIATION, ...(seed !== undefined && {seed: seed + shift})});
  const tokens = input({shape: [null], dtype: 'int32', name: 'tokens'});
  const apply = (layer: layers.Layer, to: SymbolicTensor) => {
    layer.setFastWeightInitDuringBuild(fastWeightInit);
    return layer.apply(to) as SymbolicTensor;
  };

  const embeddingsInitializer = normal(0);
  const embedding = tokenEmbedding({name: 'token_embedding', vocabSize, width, embeddingsInitializer, trainable});
  let x = apply(embedding, tokens);
  if (position === 'learned') {
    const positions = {contextLength, embeddingsInitializer: normal(1), trainable};
    x = apply(positionEmbedding({name: 'position_embedding', ...positions}), x);
  }
  if (dropout > 0) x = apply(layers.dropout({name: 'embedding_dropout', rate: dropout, seed}), x);
  for (let i = 0; i < args.layers; i++) x = apply(block(args, i), x);
  x = apply(fusedLayerNorm({name: 'final_norm', epsilon: args.epsilon, trainable}), x);
  const head = {name: 'head', units: vocabSize, useBias: false, kernelInitializer: normal(2), trainable};
  return new LanguageModel({inputs: tokens, outputs: apply(tied ? embedding : layers.dense(head), x)});
}

function block(args: GptArgs, index: number) {
  const {layers: depth, heads, width, contextLength, vocabSize, position, tied, seed, ...options} = args;
  return transformerBlock({
    ...options,
    name: `block_${index}`,
    numHeads: heads,
    contextLength,
    rotary: position === 'rotary',
    initialDeviation: DEVIATION,
    // Each block adds two terms to x, whose variance would grow with the depth.
    residualScale: 1 / Math.sqrt(2 * depth),
    seed: seed === undefined ? undefined : seed + SEEDS_PER_BLOCK * (index + 1),
  });
}
