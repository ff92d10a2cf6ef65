/** The layer `monarchDense`: a dense layer whose kernel is a Monarch matrix. */
import {pad, serialization, type Tensor2D, tidy, transpose} from '@tensorflow/tfjs-core';
import {initializers, type layers} from '@tensorflow/tfjs-layers';
import {monarchProject, monarchRank} from '../convert/monarch_project.js';
import type {ComplexPair, Parts} from '../ops/complex_numbers.js';
import {monarchMatMul} from '../ops/monarch_mat_mul.js';
import {ComplexDenseLike, type ComplexDenseLikeArgs, type WeightParts} from './complex_dense_like.js';
import {withColumns} from './dense_like.js';
import {layerFromDense} from './from_dense.js';
import type {Initializer} from './live_blocks_initializer.js';

/** Options of {@link monarchDense}; the others are those of `tf.layers.dense`. */
export interface MonarchDenseArgs extends Omit<ComplexDenseLikeArgs, 'kernelInitializer'> {
  /** Blocks of either factor; more make the layer smaller. Default 4. */
  blocks?: number;
}

/** The layer that {@link monarchDense} makes. */
export class MonarchDense extends ComplexDenseLike {
  static readonly className = 'MonarchDense';

  private readonly blocks: number;
  private w1!: WeightParts;
  private w2!: WeightParts;

  constructor(args: MonarchDenseArgs) {
    super('monarchDense', args);
    this.blocks = args.blocks ?? 4;
    this.assertInteger('blocks', this.blocks, 1);
  }

  /** Inputs and outputs of a block, and what lies between the factors; both sides rounded up to whole blocks. */
  private get sizes(): {p: number; s: number; q: number} {
    return monarchSides(this.blocks, this.inputs, this.units);
  }

  protected override buildMatrix(): void {
    const {blocks, seed} = this;
    const {p, s, q} = this.sizes;
    const seedOf = (shift: number) => (seed === undefined ? undefined : seed + shift);
    // Both parts of a complex number share its variance.
    const parts = this.complex ? 2 : 1;
    this.w1 = this.addParts('w1', [blocks, q, p], (part) =>
      uniformOfVariance(1 / (parts * p), seedOf(part === 'real' ? 0 : 2)),
    );
    this.w2 = this.addParts('w2', [blocks, s, q], (part) =>
      uniformOfVariance(1 / (3 * parts * q), seedOf(part === 'real' ? 1 : 3)),
    );
  }

  protected override multiply(x: Parts): Parts {
    const columns = this.blocks * this.sizes.p;
    const padded = (part: Parts['real']) => withColumns(part as Tensor2D, columns);
    const input = x.imag ? {real: padded(x.real), imag: padded(x.imag)} : padded(x.real);
    const y = monarchMatMul(input, valuesOf(this.w1), valuesOf(this.w2));
    const cut = (part: Parts['real']) => withColumns(part as Tensor2D, this.units);
    return 'imag' in y ? {real: cut(y.real), imag: cut(y.imag)} : {real: cut(y)};
  }

  /** Sets the factors to those of the Monarch matrix nearest to a dense kernel [in, units]; resolves to the distance. */
  async project(kernel: Tensor2D): Promise<number> {
    const {blocks, inputs, units} = this;
    const {p, s} = this.sizes;
    const matrix = tidy(() => {
      const sides: [number, number][] = [
        [0, blocks * s - units],
        [0, blocks * p - inputs],
      ];
      return pad(transpose(kernel), sides) as Tensor2D;
    });
    const {w1, w2, error} = await monarchProject(matrix, {blocks});
    this.w1.real.write(w1);
    this.w2.real.write(w2);
    for (const tensor of [matrix, w1, w2]) tensor.dispose();
    return error;
  }

  override getConfig(): serialization.ConfigDict {
    return {...super.getConfig(), blocks: this.blocks};
  }
}

/** The parameters of the two factors. */
export function monarchParameters(
  {blocks = 4}: Pick<MonarchDenseArgs, 'blocks'>,
  inputs: number,
  units: number,
): number {
  const {p, s, q} = monarchSides(blocks, inputs, units);
  return blocks * q * (p + s);
}

function monarchSides(blocks: number, inputs: number, units: number): {p: number; s: number; q: number} {
  const [p, s] = [inputs, units].map((size) => Math.ceil(size / blocks));
  return {p, s, q: blocks * monarchRank(blocks * s, blocks * p, blocks)};
}

/** U(±limit) of this variance. */
function uniformOfVariance(variance: number, seed: number | undefined): Initializer {
  const limit = Math.sqrt(3 * variance);
  return initializers.randomUniform({minval: -limit, maxval: limit, ...(seed !== undefined && {seed})});
}

function valuesOf({real, imag}: WeightParts): Parts['real'] | ComplexPair {
  return imag ? {real: real.read(), imag: imag.read()} : real.read();
}

serialization.registerClass(MonarchDense);

/**
 * A layer in the place of `tf.layers.dense` whose kernel is a Monarch matrix: two block-diagonal matrices with a
 * permutation between them, about 2 / blocks of a dense kernel's parameters where in and units are alike. The input is
 * [.., in], the output [.., units], of any sizes: they are padded to whole blocks.
 *
 * Weights are w1 [blocks, q, in / blocks], w2 [blocks, units / blocks, q] and bias, where q is min(in, units) / blocks,
 * rounded to a multiple of blocks; with `complex`, w1_real, w1_imag and so on. They start so that y has a third of the
 * variance of x, as with a dense kernel from U(±1/√in).
 *
 * Source: Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training" (2022, arXiv
 * 2204.00595).
 *
 * ```js
 * const model = tf.sequential();
 * model.add(tf.monarchDense({units: 128, blocks: 4, activation: 'relu', inputShape: [64]}));
 * model.add(tf.layers.dense({units: 10}));
 * console.log(model.layers[0].countParams()); // [3200]
 * ```
 *
 * @param args see {@link MonarchDenseArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument.
 */
export function monarchDense(args: MonarchDenseArgs): MonarchDense {
  return new MonarchDense(args);
}

/**
 * The {@link monarchDense} layer nearest to a dense layer that was built (and trained): its factors are the projection of
 * the kernel, which takes seconds for thousands of inputs; bias, activation and regularizers are the same.
 *
 * ```js
 * const dense = tf.layers.dense({units: 32, activation: 'relu', inputShape: [16]});
 * const model = tf.sequential({layers: [dense]});
 * const layer = await tf.monarchDense.fromDense(dense, {blocks: 2});
 * console.log(tf.sequential({layers: [layer]}).predict(tf.ones([3, 16])).shape); // [3, 32]
 * ```
 *
 * @param dense a layer of `tf.layers.dense`.
 * @param options `blocks`, as for {@link monarchDense}.
 * @throws Error if the layer has no kernel, which it gets when it is built.
 */
function fromDense(dense: layers.Layer, {blocks}: {blocks?: number} = {}): Promise<MonarchDense> {
  return layerFromDense('monarchDense.fromDense', dense, (args) => new MonarchDense({...args, blocks}));
}

monarchDense.fromDense = fromDense;
