/** A language model with a key/value cache for each of its blocks. */
import {reshape, slice, type Tensor, type Tensor1D, type Tensor3D, tensor, tidy} from '@tensorflow/tfjs-core';
import type {LayersModel, layers, SymbolicTensor} from '@tensorflow/tfjs-layers';
import {PositionEmbedding} from '../layers/position_embedding.js';
import {TokenEmbedding} from '../layers/token_embedding.js';
import {TransformerBlock} from '../layers/transformer_block.js';
import type {KeyValueCache} from './key_value_cache.js';

/** One sequence, to which tokens are added at the end. */
export class CachedModel {
  readonly contextLength: number;
  readonly vocabSize: number;
  private readonly chain: layers.Layer[];
  private readonly caches: Map<layers.Layer, KeyValueCache>;
  private readonly lastBlock: layers.Layer;
  private tokens = 0;

  /** @throws Error if the model is not a chain of layers with a token embedding, blocks and a limit to its length. */
  constructor(model: LayersModel) {
    this.chain = chainOf(model);
    const [embedding] = this.chain;
    const blocks = this.chain.filter((layer) => layer instanceof TransformerBlock);
    const limits = this.chain.flatMap((layer) =>
      layer instanceof PositionEmbedding || layer instanceof TransformerBlock ? (layer.contextLength ?? []) : [],
    );
    if (!(embedding instanceof TokenEmbedding) || blocks.length === 0 || limits.length === 0) {
      const names = this.chain.map(({name}) => name).join(', ');
      throw new Error(`generate: model must be a chain of layers like those of gpt, got ${names}.`);
    }
    this.vocabSize = embedding.vocabSize;
    this.contextLength = Math.min(...limits);
    this.lastBlock = blocks[blocks.length - 1];
    this.caches = new Map(blocks.map((block) => [block, block.createCache(1, this.contextLength)]));
  }

  /** Tokens that the next ones are added to. */
  get length(): number {
    return this.tokens;
  }

  /** Adds tokens, as many as there is room for. @returns logits [V] of the token that follows. */
  append(tokens: number[]): Tensor1D {
    const logits = tidy(() => {
      let x: Tensor = tensor(tokens, [1, tokens.length], 'int32');
      for (const layer of this.chain) x = this.callLayer(layer, x);
      return reshape(x, [this.vocabSize]) as Tensor1D;
    });
    this.tokens += tokens.length;
    return logits;
  }

  private callLayer(layer: layers.Layer, x: Tensor): Tensor {
    if (layer instanceof PositionEmbedding) return layer.callAt(x, this.length);
    if (!(layer instanceof TransformerBlock)) return layer.apply(x) as Tensor;
    const y = layer.callWithCache(x as Tensor3D, this.caches.get(layer) as KeyValueCache);
    // Past the last block, a token's results hang on that token alone.
    return layer === this.lastBlock ? slice(y, [0, y.shape[1] - 1, 0], [1, 1, -1]) : y;
  }

  /** Forgets all tokens. */
  restart(): void {
    for (const cache of this.caches.values()) cache.truncate(0);
    this.tokens = 0;
  }

  dispose(): void {
    for (const cache of this.caches.values()) cache.dispose();
  }
}

/** The layers from a model's input to its output, each of which has the one before for its input. */
function chainOf(model: LayersModel): layers.Layer[] {
  const chain: layers.Layer[] = [];
  let output: SymbolicTensor = model.outputs[0];
  while (output.inputs.length === 1) {
    chain.unshift(output.sourceLayer);
    [output] = output.inputs;
  }
  return chain;
}
