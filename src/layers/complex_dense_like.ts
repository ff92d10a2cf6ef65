/** What layers have in common whose matrix may be complex. */
import {add, type serialization, type Tensor, type Tensor2D, tidy} from '@tensorflow/tfjs-core';
import type {LayerVariable, layers, Shape} from '@tensorflow/tfjs-layers';
import type {Parts} from '../ops/complex_numbers.js';
import {DenseLike, type DenseLikeArgs, floatRows} from './dense_like.js';
import type {Initializer} from './live_blocks_initializer.js';

export interface ComplexDenseLikeArgs extends DenseLikeArgs {
  /**
   * Complex weights. The layer then takes complex numbers as two inputs, `layer.apply([real, imag])`, and gives two
   * outputs; the activation applies to each. Of one input, real numbers, the product's real part is taken. Default false.
   */
  complex?: boolean;
}

/** A weight, and its imaginary part where the layer is complex. */
export interface WeightParts {
  real: LayerVariable;
  imag?: LayerVariable;
}

/** A layer [.., in] → [.., units], or from two such inputs to two outputs, the parts of complex numbers. */
export abstract class ComplexDenseLike extends DenseLike {
  protected readonly complex: boolean;
  /** Whether both parts of complex numbers come in, once that is known. */
  private takesPairs = false;
  private biasImag: LayerVariable | undefined;

  constructor(functionName: string, args: ComplexDenseLikeArgs) {
    super(functionName, args);
    this.complex = args.complex ?? false;
    // One input or two.
    if (this.complex) this.inputSpec = [];
  }

  override build(inputShape: Shape | Shape[]): void {
    const shapes = (Array.isArray(inputShape[0]) ? inputShape : [inputShape]) as Shape[];
    if (shapes.length > 2 || String(shapes[0]) !== String(shapes.at(-1))) {
      const given = shapes.map((shape) => `[${shape.map((size) => size ?? '?')}]`);
      throw new Error(
        `${this.functionName}: the input must be one tensor, or real and imaginary parts of one shape, got ${given.join(', ')}.`,
      );
    }
    super.build(shapes[0]);
    this.takesPairs = shapes.length === 2;
    if (!this.takesPairs) return;
    if (this.bias) this.biasImag = this.addBias('bias_imag');
    this.inputSpec = [...this.inputSpec, ...this.inputSpec];
  }

  /** A weight with an imaginary part, of a name of its own, where the layer is complex. */
  protected addParts(name: string, shape: number[], initializer: (part: 'real' | 'imag') => Initializer): WeightParts {
    if (!this.complex) return {real: this.addKernel(name, shape, initializer('real'))};
    return {
      real: this.addKernel(`${name}_real`, shape, initializer('real')),
      imag: this.addKernel(`${name}_imag`, shape, initializer('imag')),
    };
  }

  /** x·W for x [rows, in]: both parts where either is complex. */
  protected abstract multiply(x: Parts): Parts;

  protected override product(x: Tensor2D, bias: Tensor | undefined): Tensor {
    const {real} = this.multiply({real: x});
    return bias ? add(real, bias) : real;
  }

  override call(inputs: Tensor | Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor | Tensor[] {
    return this.takesPairs ? this.callPair(inputs as Tensor[], kwargs) : super.call(inputs, kwargs);
  }

  private callPair(inputs: Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor[] {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const [real, imag] = inputs.map(floatRows);
      const y = this.multiply({real, imag});
      const biased = (part: Tensor, bias: LayerVariable | undefined) => (bias ? add(part, bias.read()) : part);
      const outputs = [biased(y.real, this.bias), biased(y.imag as Tensor, this.biasImag)];
      return outputs.map((part) => this.activated(part, inputs[0].shape));
    });
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    return Array.isArray(inputShape[0])
      ? (inputShape as Shape[]).map((shape) => super.computeOutputShape(shape) as Shape)
      : super.computeOutputShape(inputShape);
  }

  /** Where there is no mask, tfjs still wants one for each output. */
  override computeMask(inputs: Tensor | Tensor[], mask?: Tensor | Tensor[]): Tensor | Tensor[] {
    const masks = super.computeMask(inputs, mask);
    return this.takesPairs && !Array.isArray(masks) ? [masks, masks] : masks;
  }

  override getConfig(): serialization.ConfigDict {
    return {...super.getConfig(), complex: this.complex};
  }
}
