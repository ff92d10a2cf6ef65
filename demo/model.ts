/**
 * The smallest language model that needs attention: byte and position embeddings, one causal attention layer, one small
 * perceptron, each added to the residual stream, and a projection to the next byte.
 *
 * Letters: B batch, S context, W width, H heads, D = W / H.
 */
import * as tf from '../src/tf.js';
import {vocabularySize} from './text_data.js';

export interface ModelSizes {
  /** S, the longest text the model sees at once. */
  context: number;
  /** W, numbers per token between the layers; a multiple of `heads`. */
  width: number;
  /** H */
  heads: number;
  /** Width of the perceptron's hidden layer. */
  hidden: number;
}

const initialDeviation = 0.05;
/** Added to a mean square so that its root can be divided by. */
const epsilon = 1e-5;

type Vector = tf.Variable<tf.Rank.R1>;
type Matrix = tf.Variable<tf.Rank.R2>;

export class AttentionModel {
  private readonly weights: ReturnType<typeof initialWeights>;

  constructor(readonly sizes: ModelSizes) {
    this.weights = initialWeights(sizes);
  }

  /** What the optimizer changes. */
  get variables(): tf.Variable[] {
    return Object.values(this.weights);
  }

  get parameterCount(): number {
    return this.variables.reduce((count, {size}) => count + size, 0);
  }

  /** Mean cross-entropy of the next byte, in nats; `tokens` and `targets` are int32 [B, S]. */
  loss(tokens: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
    return tf.tidy(() => {
      const expected = oneHot(targets);
      return tf.losses.softmaxCrossEntropy(expected, this.logits(tokens)).asScalar();
    });
  }

  /** Logits of the byte after each token, [B·S, 256], for int32 tokens [B, S]. */
  logits(tokens: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      const [batch] = tokens.shape;
      const {context, width} = this.sizes;
      const {byteEmbedding, positionEmbedding, attentionGain, perceptronGain, finalGain, toLogits} = this.weights;
      // A product with one-hot rows rather than a gather, whose gradient is slow on a GPU.
      const bytes = tf.matMul(oneHot(tokens), byteEmbedding);
      const embedded = tf.add(bytes.reshape([batch, context, width]), positionEmbedding);
      let stream = embedded.reshape<tf.Tensor2D>([batch * context, width]);
      stream = tf.add(stream, this.attend(normalize(stream, attentionGain), batch));
      stream = tf.add(stream, this.perceive(normalize(stream, perceptronGain)));
      return tf.matMul(normalize(stream, finalGain), toLogits);
    });
  }

  dispose(): void {
    tf.dispose(this.variables);
  }

  /** The attention layer, [B·S, W] to [B·S, W]. */
  private attend(x: tf.Tensor2D, batch: number): tf.Tensor2D {
    const {context, width, heads} = this.sizes;
    // A projection's columns are the heads side by side: in the order BSHD, so that nothing needs to be transposed.
    const project = (weights: Matrix) =>
      tf.matMul(x, weights).reshape<tf.Tensor4D>([batch, context, heads, width / heads]);
    const {query, key, value, attentionOutput} = this.weights;
    const attended = tf.flashAttention(project(query), project(key), project(value), {causal: true, order: 'BSHD'});
    return tf.matMul(attended.reshape<tf.Tensor2D>([batch * context, width]), attentionOutput);
  }

  private perceive(x: tf.Tensor2D): tf.Tensor2D {
    const {hiddenLayer, hiddenBias, perceptronOutput} = this.weights;
    const hidden: tf.Tensor2D = tf.add(tf.matMul(x, hiddenLayer), hiddenBias);
    return tf.matMul(tf.relu(hidden), perceptronOutput);
  }
}

function initialWeights({context, width, hidden}: ModelSizes) {
  return {
    byteEmbedding: matrix(vocabularySize, width),
    positionEmbedding: matrix(context, width),
    attentionGain: vector(width, 1),
    query: matrix(width, width),
    key: matrix(width, width),
    value: matrix(width, width),
    attentionOutput: matrix(width, width),
    perceptronGain: vector(width, 1),
    hiddenLayer: matrix(width, hidden),
    hiddenBias: vector(hidden, 0),
    perceptronOutput: matrix(hidden, width),
    finalGain: vector(width, 1),
    toLogits: matrix(width, vocabularySize),
  };
}

function matrix(rows: number, columns: number): Matrix {
  return tf.tidy(() => tf.variable(tf.randomNormal<tf.Rank.R2>([rows, columns], 0, initialDeviation)));
}

function vector(length: number, value: number): Vector {
  return tf.tidy(() => tf.variable(tf.fill<tf.Rank.R1>([length], value)));
}

/** Divides each row by its root mean square and multiplies it by the learnt gain. */
function normalize(rows: tf.Tensor2D, gains: Vector): tf.Tensor2D {
  const meanSquare = tf.mean(tf.square(rows), 1, true);
  return tf.mul(tf.mul(rows, tf.rsqrt(tf.add(meanSquare, epsilon))), gains);
}

/** int32 [B, S] to float32 [B·S, 256]. */
function oneHot(tokens: tf.Tensor2D): tf.Tensor2D {
  return tf.oneHot(tokens.flatten(), vocabularySize).toFloat() as tf.Tensor2D;
}
