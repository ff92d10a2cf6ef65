/** The layer `fusedLayerNorm`: layer normalization by `layerNorm`. */
import {serialization, type Tensor, type Tensor1D, tidy} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, layers, type Shape} from '@tensorflow/tfjs-layers';
import {layerNorm} from '../ops/layer_norm.js';

type LayerArgs = NonNullable<ConstructorParameters<typeof layers.Layer>[0]>;

/** Options of {@link fusedLayerNorm}. */
export interface FusedLayerNormArgs extends LayerArgs {
  /** Added to the variance. Default 1e-5, as in GPT-2; `tf.layers.layerNormalization` has 1e-3. */
  epsilon?: number;
}

/** The layer that {@link fusedLayerNorm} makes. */
export class FusedLayerNorm extends layers.Layer {
  static readonly className = 'FusedLayerNorm';

  private readonly epsilon: number;
  private gamma!: LayerVariable;
  private beta!: LayerVariable;

  constructor(args: FusedLayerNormArgs = {}) {
    super(args);
    this.epsilon = args.epsilon ?? 1e-5;
    if (!(this.epsilon > 0)) throw new Error(`fusedLayerNorm: epsilon must be above 0, got ${this.epsilon}.`);
    this.supportsMasking = true;
  }

  override build(inputShape: Shape | Shape[]): void {
    const width = inputShape[inputShape.length - 1];
    if (typeof width !== 'number') {
      throw new Error(`fusedLayerNorm: the last axis of the input must be known, got shape [${inputShape}].`);
    }
    this.gamma = this.addWeight('gamma', [width], 'float32', initializers.ones());
    this.beta = this.addWeight('beta', [width], 'float32', initializers.zeros());
    for (const weight of [this.gamma, this.beta]) weight.trainable = this.trainable;
    this.inputSpec = [{axes: {[-1]: width}}];
    this.built = true;
  }

  override call(inputs: Tensor | Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const x = Array.isArray(inputs) ? inputs[0] : inputs;
      const [gamma, beta] = [this.gamma, this.beta].map((weight) => weight.read() as Tensor1D);
      return layerNorm(x, gamma, beta, {epsilon: this.epsilon});
    });
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    return inputShape;
  }

  override getConfig(): serialization.ConfigDict {
    return {...super.getConfig(), epsilon: this.epsilon};
  }
}

serialization.registerClass(FusedLayerNorm);

/**
 * A layer in the place of `tf.layers.layerNormalization` over the last axis: (x − mean) / √(variance + epsilon)·gamma +
 * beta, by the op `layerNorm`: a few kernels forward and backward, where tfjs-layers takes thousands for a wide input. The
 * input is [.., W], the output of the same shape; weights are gamma [W] and beta [W], as in Keras.
 *
 * Source: Ba, Kiros and Hinton, "Layer Normalization" (2016, arXiv 1607.06450).
 *
 * ```js
 * const model = tf.sequential({layers: [tf.fusedLayerNorm({inputShape: [3]})]});
 * console.log((await model.predict(tf.tensor2d([[10, 10, 10]])).data()).join(' ')); // [0 0 0]
 * ```
 *
 * @param args see {@link FusedLayerNormArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument.
 */
export function fusedLayerNorm(args?: FusedLayerNormArgs): FusedLayerNorm {
  return new FusedLayerNorm(args);
}
