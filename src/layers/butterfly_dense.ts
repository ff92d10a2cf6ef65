/** The layers `butterflyDense` and `kaleidoscopeDense`: dense layers whose kernels are products of butterfly matrices. */
import {serialization} from '@tensorflow/tfjs-core';
import {butterflyMultiply} from '../ops/butterfly_multiply.js';
import type {Parts} from '../ops/complex_numbers.js';
import {ComplexDenseLike, type ComplexDenseLikeArgs, type WeightParts} from './complex_dense_like.js';
import {TwiddleInitializer, type TwiddleStart} from './twiddle_initializer.js';

const STARTS: readonly TwiddleStart[] = ['randn', 'ortho', 'identity', 'fft'];

type CommonArgs = Omit<ComplexDenseLikeArgs, 'kernelInitializer'> & {
  /**
   * How the factors start: 'randn' with normal entries of variance ½; 'ortho' (the default) with random rotations and
   * reflections, or unitary matrices where they are complex; 'identity'; 'fft', with `complex` and one block, with the
   * unitary Fourier transform of a bit-reversed input.
   */
  kernelInitializer?: TwiddleStart;
};

/** Options of {@link butterflyDense}; the others are those of `tf.layers.dense`. */
export interface ButterflyDenseArgs extends CommonArgs {
  /** Butterfly matrices that follow one another. Default 1. */
  blocks?: number;
  /** See `butterflyMultiply`. Default true. */
  increasingStride?: boolean;
  /** Times that the size of the matrix exceeds the input's, rounded up to a power of two; a power of two. Default 1. */
  expansion?: number;
}

/** Options of {@link kaleidoscopeDense}; the others are those of `tf.layers.dense`. */
export interface KaleidoscopeDenseArgs extends CommonArgs {
  /** Pairs of a butterfly and a transposed one. Default 1. */
  width?: number;
  /** Times that the size of the matrices exceeds the input's, rounded up to a power of two; a power of two. Default 1. */
  expansion?: number;
}

/** The layer that {@link butterflyDense} and {@link kaleidoscopeDense} make. */
export class ButterflyDense extends ComplexDenseLike {
  static readonly className = 'ButterflyDense';

  private readonly blocks: number;
  private readonly increasingStride: boolean;
  private readonly expansion: number;
  private readonly start: TwiddleStart;
  private twiddle!: WeightParts;

  constructor({kernelInitializer = 'ortho', ...args}: ButterflyDenseArgs, functionName = 'butterflyDense') {
    super(functionName, args);
    this.blocks = args.blocks ?? 1;
    this.increasingStride = args.increasingStride ?? true;
    this.expansion = args.expansion ?? 1;
    this.start = kernelInitializer;
    this.assertInteger('blocks', this.blocks, 1);
    if (!Number.isInteger(Math.log2(this.expansion)) || this.expansion < 1) {
      throw new Error(`${functionName}: expansion must be a power of two from 1 on, got ${this.expansion}.`);
    }
    if (!STARTS.includes(this.start)) {
      const names = STARTS.join(', ');
      throw new Error(`${functionName}: kernelInitializer must be one of ${names}, got '${kernelInitializer}'.`);
    }
    if (this.start === 'fft' && !(this.complex && this.blocks === 1 && this.increasingStride)) {
      throw new Error(`${functionName}: kernelInitializer 'fft' needs complex, one block and increasing strides.`);
    }
  }

  protected override buildMatrix(): void {
    const factors = Math.max(1, Math.ceil(Math.log2(this.inputs))) + Math.log2(this.expansion);
    const shape = [Math.ceil(this.units / 2 ** factors), this.blocks, factors, 2 ** (factors - 1), 2, 2];
    const seed = this.seed ?? Math.floor(Math.random() * 2 ** 31);
    this.twiddle = this.addParts(
      'twiddle',
      shape,
      (part) => new TwiddleInitializer(this.start, this.complex, part, seed),
    );
  }

  protected override multiply(x: Parts): Parts {
    const {increasingStride, units: outputSize} = this;
    const [real, imag] = [this.twiddle.real.read(), this.twiddle.imag?.read()];
    const options = {increasingStride, outputSize};
    const input = x.imag ? {real: x.real, imag: x.imag} : x.real;
    return imag ? butterflyMultiply(input, {real, imag}, options) : {real: butterflyMultiply(x.real, real, options)};
  }

  override getConfig(): serialization.ConfigDict {
    const {blocks, increasingStride, expansion, start} = this;
    return {...super.getConfig(), blocks, increasingStride, expansion, kernelInitializer: start};
  }
}

serialization.registerClass(ButterflyDense);

/**
 * A layer in the place of `tf.layers.dense` whose kernel is a product of `blocks` butterfly matrices: 2·blocks·n·log₂ n
 * parameters in place of n², for n inputs and outputs. Inputs are continued with zeros to a power of two n; where there
 * are more units than n, several stacks stand side by side; surplus outputs are cut off. The input is [.., in], the output
 * [.., units]. Weights are twiddle [stacks, blocks, log₂ n, n / 2, 2, 2], or twiddle_real and twiddle_imag, and bias, with
 * two inputs also bias_imag.
 *
 * Weight decay on factors pulls their product to 0 faster than it does a dense kernel; better do without.
 *
 * Source: Dao et al., "Learning Fast Algorithms for Linear Transforms Using Butterfly Factorizations" (2019, arXiv
 * 1903.05895).
 *
 * ```js
 * const model = tf.sequential();
 * model.add(tf.butterflyDense({units: 100, activation: 'relu', inputShape: [60]}));
 * model.add(tf.layers.dense({units: 10}));
 * console.log(model.layers[0].countParams()); // [1636]
 * ```
 *
 * @param args see {@link ButterflyDenseArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument.
 */
export function butterflyDense(args: ButterflyDenseArgs): ButterflyDense {
  return new ButterflyDense(args);
}

/**
 * {@link butterflyDense} of a Kaleidoscope matrix: `width` products B·B′ of a butterfly and a transposed one, `expansion`
 * times as large as the input. With width and expansion 1 it can be any permutation and any convolution, and with larger
 * ones any structured linear map of small arithmetic circuits.
 *
 * Source: Dao et al., "Kaleidoscope: An Efficient, Learnable Representation For All Structured Linear Maps" (2020, arXiv
 * 2012.14966).
 *
 * ```js
 * const layer = tf.kaleidoscopeDense({units: 16, width: 1, inputShape: [16]});
 * console.log(tf.sequential({layers: [layer]}).predict(tf.ones([3, 16])).shape); // [3, 16]
 * ```
 *
 * @param args see {@link KaleidoscopeDenseArgs}.
 * @returns the layer, of the class that {@link butterflyDense} makes.
 * @throws Error that names the argument.
 */
export function kaleidoscopeDense({width = 1, ...args}: KaleidoscopeDenseArgs): ButterflyDense {
  if (!Number.isInteger(width) || width < 1) {
    throw new Error(`kaleidoscopeDense: width must be an integer from 1 on, got ${width}.`);
  }
  return new ButterflyDense({...args, blocks: 2 * width, increasingStride: false}, 'kaleidoscopeDense');
}
