/** The layer `positionEmbedding`: a learned vector for every place of a sequence. */
import {add, serialization, slice, type Tensor, type Tensor2D, tidy} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, layers, type Shape} from '@tensorflow/tfjs-layers';
import {fromIdentifier, type Identifier, toIdentifier} from './from_identifier.js';
import type {Initializer} from './live_blocks_initializer.js';

type LayerArgs = NonNullable<ConstructorParameters<typeof layers.Layer>[0]>;

/** Options of {@link positionEmbedding}. */
export interface PositionEmbeddingArgs extends LayerArgs {
  /** Places that have a vector; sequences may be shorter. */
  contextLength: number;
  /** Default: normal with standard deviation 0.02. */
  embeddingsInitializer?: Identifier<Initializer>;
}

/** The layer that {@link positionEmbedding} makes. */
export class PositionEmbedding extends layers.Layer {
  static readonly className = 'PositionEmbedding';

  readonly contextLength: number;
  private readonly embeddingsInitializer: Initializer;
  private embeddings!: LayerVariable;

  constructor(args: PositionEmbeddingArgs) {
    super(args);
    this.contextLength = args.contextLength;
    if (!Number.isInteger(this.contextLength) || this.contextLength < 1) {
      throw new Error(`positionEmbedding: contextLength must be an integer from 1 on, got ${args.contextLength}.`);
    }
    this.embeddingsInitializer = args.embeddingsInitializer
      ? fromIdentifier('positionEmbedding', 'embeddingsInitializer', args.embeddingsInitializer)
      : initializers.randomNormal({mean: 0, stddev: 0.02});
  }

  override build(inputShape: Shape | Shape[]): void {
    const width = inputShape[inputShape.length - 1];
    if (typeof width !== 'number') {
      throw new Error(`positionEmbedding: the last axis of the input must be known, got shape [${inputShape}].`);
    }
    const shape = [this.contextLength, width];
    this.embeddings = this.addWeight('embeddings', shape, 'float32', this.embeddingsInitializer);
    this.embeddings.trainable = this.trainable;
    this.inputSpec = [{ndim: 3, axes: {[-1]: width}}];
    this.built = true;
  }

  override call(inputs: Tensor | Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor {
    this.invokeCallHook(inputs, kwargs);
    return this.callAt(Array.isArray(inputs) ? inputs[0] : inputs, 0);
  }

  /**
   * x [B, S, W] and the vectors of S places from `offset` on.
   *
   * @throws Error if the sequence reaches beyond contextLength.
   */
  callAt(x: Tensor, offset: number): Tensor {
    return tidy(() => {
      const [, length, width] = x.shape;
      if (offset + length > this.contextLength) {
        const from = offset > 0 ? ` from ${offset} on` : '';
        throw new Error(
          `positionEmbedding: contextLength is ${this.contextLength}, got an input of ${length} places${from}.`,
        );
      }
      const table = this.embeddings.read() as Tensor2D;
      return add(x, length === this.contextLength ? table : slice(table, [offset, 0], [length, width]));
    });
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    return inputShape;
  }

  override getConfig(): serialization.ConfigDict {
    const {contextLength, embeddingsInitializer} = this;
    return {...super.getConfig(), contextLength, embeddingsInitializer: toIdentifier(embeddingsInitializer)};
  }
}

serialization.registerClass(PositionEmbedding);

/**
 * Adds to vectors [B, S, W] a learned vector for each place: the first S rows of the weight embeddings [contextLength, W].
 * `layer.callAt(x, offset)` does so for places from `offset` on, as generation needs it.
 *
 * Source: Radford et al., "Improving Language Understanding by Generative Pre-Training" (2018).
 *
 * ```js
 * const model = tf.sequential({layers: [tf.positionEmbedding({contextLength: 16, inputShape: [null, 8]})]});
 * console.log(model.predict(tf.zeros([2, 5, 8])).shape, model.countParams()); // [2, 5, 8] [128]
 * ```
 *
 * @param args see {@link PositionEmbeddingArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument.
 */
export function positionEmbedding(args: PositionEmbeddingArgs): PositionEmbedding {
  return new PositionEmbedding(args);
}
