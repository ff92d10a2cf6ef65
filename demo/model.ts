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

export class AttentionModel {
  private readonly byteEmbedding: tf.Variable;
  private readonly positionEmbedding: tf.Variable;
  private readonly attentionGain: tf.Variable;
  private readonly query: tf.Variable;
  private readonly key: tf.Variable;
  private readonly value: tf.Variable;
  private readonly attentionOutput: tf.Variable;
  private readonly perceptronGain: tf.Variable;
  private readonly hiddenLayer: tf.Variable;
  private readonly hiddenBias: tf.Variable;
  private readonly perceptronOutput: tf.Variable;
  private readonly finalGain: tf.Variable;
  private readonly toLogits: tf.Variable;

  constructor(readonly sizes: ModelSizes) {
    const {context, width, hidden} = sizes;
    this.byteEmbedding = matrix(vocabularySize, width);
    this.positionEmbedding = matrix(context, width);
    this.attentionGain = gain(width);
    this.query = matrix(width, width);
    this.key = matrix(width, width);
    this.value = matrix(width, width);
    this.attentionOutput = matrix(width, width);
    this.perceptronGain = gain(width);
    this.hiddenLayer = matrix(width, hidden);
    this.hiddenBias = tf.variable(tf.zeros([hidden]));
    this.perceptronOutput = matrix(hidden, width);
    this.finalGain = gain(width);
    this.toLogits = matrix(width, vocabularySize);
  }

  /** What the optimizer changes. */
  get variables(): tf.Variable[] {
    return [
      this.byteEmbedding,
      this.positionEmbedding,
      this.attentionGain,
      this.query,
      this.key,
      this.value,
      this.attentionOutput,
      this.perceptronGain,
      this.hiddenLayer,
      this.hiddenBias,
      this.perceptronOutput,
      this.finalGain,
      this.toLogits,
    ];
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
      // A product with one-hot rows rather than a gather, whose gradient is slow on a GPU.
      const bytes = tf.matMul(oneHot(tokens), this.byteEmbedding as tf.Tensor2D);
      const embedded = tf.add(bytes.reshape([batch, context, width]), this.positionEmbedding);
      let stream = embedded.reshape<tf.Tensor2D>([batch * context, width]);
      stream = tf.add(stream, this.attend(normalize(stream, this.attentionGain), batch));
      stream = tf.add(stream, this.perceive(normalize(stream, this.perceptronGain)));
      return tf.matMul(normalize(stream, this.finalGain), this.toLogits as tf.Tensor2D);
    });
  }

  dispose(): void {
    tf.dispose(this.variables);
  }

  /** The attention layer, [B·S, W] to [B·S, W]. */
  private attend(x: tf.Tensor2D, batch: number): tf.Tensor2D {
    const {context, width, heads} = this.sizes;
    // A projection's columns are the heads side by side: in the order BSHD, so that nothing needs to be transposed.
    const project = (weights: tf.Variable) =>
      tf.matMul(x, weights as tf.Tensor2D).reshape<tf.Tensor4D>([batch, context, heads, width / heads]);
    const [q, k, v] = [this.query, this.key, this.value].map(project);
    const attended = tf.flashAttention(q, k, v, {causal: true, order: 'BSHD'});
    return tf.matMul(attended.reshape<tf.Tensor2D>([batch * context, width]), this.attentionOutput as tf.Tensor2D);
  }

  private perceive(x: tf.Tensor2D): tf.Tensor2D {
    const hidden = tf.relu(tf.add(tf.matMul(x, this.hiddenLayer as tf.Tensor2D), this.hiddenBias));
    return tf.matMul(hidden as tf.Tensor2D, this.perceptronOutput as tf.Tensor2D);
  }
}

/** Divides each row by its root mean square and multiplies it by the learnt gain. */
function normalize(rows: tf.Tensor2D, gains: tf.Variable): tf.Tensor2D {
  const meanSquare = tf.mean(tf.square(rows), 1, true);
  return tf.mul(tf.mul(rows, tf.rsqrt(tf.add(meanSquare, epsilon))), gains);
}

/** int32 [B, S] to float32 [B·S, 256]. */
function oneHot(tokens: tf.Tensor2D): tf.Tensor2D {
  return tf.oneHot(tokens.flatten(), vocabularySize).toFloat() as tf.Tensor2D;
}

function matrix(rows: number, columns: number): tf.Variable {
  return tf.tidy(() => tf.variable(tf.randomNormal([rows, columns], 0, initialDeviation)));
}

function gain(width: number): tf.Variable {
  return tf.tidy(() => tf.variable(tf.ones([width])));
}
