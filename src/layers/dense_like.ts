/** What layers in the place of `tf.layers.dense` have in common, whatever matrix they multiply with. */
import {cast, pad, type serialization, slice, type Tensor, type Tensor2D, tidy} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, layers, type regularizers, type Shape} from '@tensorflow/tfjs-layers';
import {asRows, reshapeIfNeeded} from '../ops/reshape_if_needed.js';
import {fromIdentifier, type Identifier, toIdentifier} from './from_identifier.js';
import type {Initializer} from './live_blocks_initializer.js';

type DenseArgs = Parameters<typeof layers.dense>[0];
export type Regularizer = ReturnType<typeof regularizers.l1l2>;

/**
 * Options of `tf.layers.dense` that mean here what they mean there. Constraints are missing, because the training of tfjs
 * does not apply them.
 */
export interface DenseLikeArgs extends Omit<DenseArgs, 'kernelConstraint' | 'biasConstraint'> {
  /** Makes the first weights the same every time, where no initializer is given that is random in itself. */
  seed?: number;
}

/** What tfjs-layers makes of the argument `activation`. */
interface Activation extends serialization.Serializable {
  apply(x: Tensor): Tensor;
}

/** A layer [.., in] → [.., units]: a matrix that its subclass makes, a bias and an activation. */
export abstract class DenseLike extends layers.Layer {
  protected readonly units: number;
  protected readonly seed: number | undefined;
  protected readonly kernelRegularizer: Regularizer | undefined;
  /** Elements of the input's last axis, once that is known. */
  protected inputs = 0;
  private readonly useBias: boolean;
  private readonly activation: Activation;
  private readonly biasInitializer: Initializer;
  private readonly biasRegularizer: Regularizer | undefined;
  protected bias: LayerVariable | undefined;

  /** @param functionName the function that makes the layer, for errors. */
  constructor(
    protected readonly functionName: string,
    args: DenseLikeArgs,
  ) {
    super(withInputShape(args));
    this.assertInteger('units', args.units, 1);
    this.units = args.units;
    this.useBias = args.useBias ?? true;
    this.seed = args.seed ?? undefined;
    this.activation = fromIdentifier<Activation>(functionName, 'activation', args.activation ?? 'linear');
    this.biasInitializer = this.optional<Initializer>('biasInitializer', args) ?? initializers.zeros();
    this.kernelRegularizer = this.optional('kernelRegularizer', args);
    this.biasRegularizer = this.optional('biasRegularizer', args);
    this.activityRegularizer = this.optional('activityRegularizer', args) as Regularizer;
    this.supportsMasking = true;
    this.inputSpec = [{minNDim: 2}];
  }

  /** A configuration that was saved has null where nothing was given. */
  protected optional<T extends serialization.Serializable>(
    argument: keyof DenseLikeArgs,
    args: DenseLikeArgs,
  ): T | undefined {
    return args[argument] == null
      ? undefined
      : fromIdentifier(this.functionName, argument, args[argument] as Identifier<T>);
  }

  protected assertInteger(argument: string, value: number, least: number): void {
    if (!Number.isInteger(value) || value < least) {
      throw new Error(`${this.functionName}: ${argument} must be an integer from ${least} on, got ${value}.`);
    }
  }

  override build(inputShape: Shape | Shape[]): void {
    const inputs = oneShape(inputShape).at(-1);
    if (typeof inputs !== 'number') {
      throw new Error(`${this.functionName}: the last axis of the input must be known, got shape [${inputShape}].`);
    }
    this.inputs = inputs;
    this.buildMatrix();
    if (this.useBias) this.bias = this.addBias('bias');
    this.inputSpec = [{minNDim: 2, axes: {[-1]: inputs}}];
    this.built = true;
  }

  /** Adds the weights of the matrix. */
  protected abstract buildMatrix(): void;

  /** x·W + bias for x [rows, in]. */
  protected abstract product(x: Tensor2D, bias: Tensor | undefined): Tensor;

  protected addKernel(name: string, shape: number[], initializer: Initializer): LayerVariable {
    return this.addWeight(name, shape, 'float32', initializer, this.kernelRegularizer);
  }

  protected addBias(name: string): LayerVariable {
    return this.addWeight(name, [this.units], 'float32', this.biasInitializer, this.biasRegularizer);
  }

  override call(inputs: Tensor | Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor | Tensor[] {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const input = Array.isArray(inputs) ? inputs[0] : inputs;
      return this.activated(this.product(floatRows(input), this.bias?.read()), input.shape);
    });
  }

  /** The activation of what came out for the rows of an input of this shape. */
  protected activated(y: Tensor, inputShape: number[]): Tensor {
    return this.activation.apply(reshapeIfNeeded(y, [...inputShape.slice(0, -1), this.units]));
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    return [...oneShape(inputShape).slice(0, -1), this.units];
  }

  override getConfig(): serialization.ConfigDict {
    const named = (object: serialization.Serializable | undefined) => (object ? toIdentifier(object) : null);
    return {
      ...super.getConfig(),
      units: this.units,
      activation: this.activation.getClassName(),
      useBias: this.useBias,
      seed: this.seed ?? null,
      biasInitializer: named(this.biasInitializer),
      kernelRegularizer: named(this.kernelRegularizer),
      biasRegularizer: named(this.biasRegularizer),
      activityRegularizer: named(this.activityRegularizer),
    };
  }
}

/** An input of a layer, [.., in], as float32 rows. */
export function floatRows(input: Tensor): Tensor2D {
  return asRows(input.dtype === 'float32' ? input : cast(input, 'float32')) as Tensor2D;
}

/** The rows continued with zeros, or cut off, to so many columns. */
export function withColumns(x: Tensor2D, columns: number): Tensor2D {
  const missing = columns - x.shape[1];
  if (missing === 0) return x;
  if (missing < 0) return slice(x, [0, 0], [-1, columns]);
  return pad(x, [
    [0, 0],
    [0, missing],
  ]);
}

/** `inputDim` is short for an `inputShape` of one axis, as in `tf.layers.dense`. */
function withInputShape(args: DenseLikeArgs): DenseLikeArgs {
  const hasShape = args.inputShape != null || args.batchInputShape != null;
  return args.inputDim == null || hasShape ? args : {...args, inputShape: [args.inputDim]};
}

function oneShape(shape: Shape | Shape[]): Shape {
  return (Array.isArray(shape[0]) ? shape[0] : shape) as Shape;
}
