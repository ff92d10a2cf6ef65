/** The layer `tokenEmbedding`: vectors of tokens, and, applied again, the scores of tokens for vectors. */
import {
  cast,
  customGrad,
  type GradSaveFunc,
  gather,
  serialization,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tidy,
} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, layers, type Shape} from '@tensorflow/tfjs-layers';
import {denseMatMul} from '../ops/dense_mat_mul.js';
import {asRows, reshapeIfNeeded} from '../ops/reshape_if_needed.js';
import {tokenSums} from '../ops/token_sums.js';
import {fromIdentifier, type Identifier, toIdentifier} from './from_identifier.js';
import type {Initializer} from './live_blocks_initializer.js';

type LayerArgs = NonNullable<ConstructorParameters<typeof layers.Layer>[0]>;

/** Options of {@link tokenEmbedding}. */
export interface TokenEmbeddingArgs extends LayerArgs {
  /** V: tokens are the integers from 0 to V − 1. */
  vocabSize: number;
  /** W: elements of a token's vector. */
  width: number;
  /** Default: normal with standard deviation 0.02, as in GPT-2. */
  embeddingsInitializer?: Identifier<Initializer>;
}

/** The layer that {@link tokenEmbedding} makes. */
export class TokenEmbedding extends layers.Layer {
  static readonly className = 'TokenEmbedding';

  readonly vocabSize: number;
  readonly width: number;
  private readonly embeddingsInitializer: Initializer;
  private embeddings!: LayerVariable;

  constructor(args: TokenEmbeddingArgs) {
    super(args);
    for (const name of ['vocabSize', 'width'] as const) {
      if (!Number.isInteger(args[name]) || args[name] < 1) {
        throw new Error(`tokenEmbedding: ${name} must be an integer from 1 on, got ${args[name]}.`);
      }
    }
    this.vocabSize = args.vocabSize;
    this.width = args.width;
    this.embeddingsInitializer = args.embeddingsInitializer
      ? fromIdentifier('tokenEmbedding', 'embeddingsInitializer', args.embeddingsInitializer)
      : initializers.randomNormal({mean: 0, stddev: 0.02});
  }

  override build(): void {
    const {vocabSize, width, embeddingsInitializer} = this;
    this.embeddings = this.addWeight('embeddings', [vocabSize, width], 'float32', embeddingsInitializer);
    this.embeddings.trainable = this.trainable;
    this.built = true;
  }

  /** tfjs counts each use in a model, but a model that is disposed takes back only one. */
  override apply(...args: Parameters<layers.Layer['apply']>): ReturnType<layers.Layer['apply']> {
    const usesBefore = this._refCount ?? 0;
    const output = super.apply(...args);
    const [input] = [args[0]].flat();
    if (input.rank === 3 && usesBefore > 0) this._refCount = usesBefore;
    return output;
  }

  /** Tokens have two axes and vectors three: the layer of a model is told shapes only. */
  override call(inputs: Tensor | Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const input = Array.isArray(inputs) ? inputs[0] : inputs;
      return input.rank === 2 ? this.embed(input) : this.logits(input);
    });
  }

  private embed(tokens: Tensor): Tensor {
    const places = reshapeIfNeeded(cast(tokens, 'int32'), [tokens.size]) as Tensor1D;
    return reshapeIfNeeded(lookUp(this.embeddings.read(), places), [...tokens.shape, this.width]);
  }

  private logits(x: Tensor): Tensor {
    const logits = denseMatMul(asRows(x) as Tensor2D, this.embeddings.read() as Tensor2D, {transposeB: true});
    return reshapeIfNeeded(logits, [...x.shape.slice(0, -1), this.vocabSize]);
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    const shape = inputShape as Shape;
    if (shape.length === 2) return [...shape, this.width];
    if (shape.length === 3 && shape[2] === this.width) return [shape[0], shape[1], this.vocabSize];
    const got = shape.map((size) => size ?? '?');
    throw new Error(
      `tokenEmbedding: the input must be tokens [B, S] or vectors [B, S, ${this.width}], got shape [${got}].`,
    );
  }

  override getConfig(): serialization.ConfigDict {
    const {vocabSize, width, embeddingsInitializer} = this;
    return {...super.getConfig(), vocabSize, width, embeddingsInitializer: toIdentifier(embeddingsInitializer)};
  }
}

/**
 * The rows of a table [V, W] at places [R]. tfjs's gradient of gather goes through every place for every element of the
 * table, and transposes what it adds up.
 */
function lookUp(table: Tensor, places: Tensor1D): Tensor {
  const ofTable = customGrad((...inputs) => {
    const [x, save] = inputs as [Tensor, GradSaveFunc];
    save([places]);
    const gradFunc = (dy: Tensor, [rows]: Tensor[]): Tensor => tokenSums(dy as Tensor2D, rows as Tensor1D, x.shape[0]);
    return {value: gather(x, places), gradFunc};
  });
  return ofTable(table);
}

serialization.registerClass(TokenEmbedding);

/**
 * The vectors of tokens: of tokens [B, S], int32 in [0, V), the layer makes their rows of the weight embeddings [V, W], as
 * [B, S, W]. Applied to vectors [B, S, W] it makes logits [B, S, V], their products with all rows, so that the two ends of
 * a language model share a weight. A model that uses the layer twice saves and loads it once.
 *
 * Source: Press and Wolf, "Using the Output Embedding to Improve Language Models" (2017, arXiv 1608.05859).
 *
 * ```js
 * const embedding = tf.tokenEmbedding({vocabSize: 50, width: 8});
 * const tokens = tf.input({shape: [null], dtype: 'int32'});
 * const model = tf.model({inputs: tokens, outputs: embedding.apply(embedding.apply(tokens))});
 * console.log(model.predict(tf.zeros([2, 3], 'int32')).shape, model.countParams()); // [2, 3, 50] [400]
 * ```
 *
 * @param args see {@link TokenEmbeddingArgs}.
 * @returns the layer, for `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument.
 */
export function tokenEmbedding(args: TokenEmbeddingArgs): TokenEmbedding {
  return new TokenEmbedding(args);
}
