/** The layer `pixelflyDense`: a dense layer whose kernel is a block butterfly and a low-rank term. */
import {
  add,
  dispose,
  keep,
  matMul,
  mul,
  type Scalar,
  scalar,
  serialization,
  sigmoid,
  sub,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  tidy,
  zerosLike,
} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, type layers} from '@tensorflow/tfjs-layers';
import {pixelflyProject} from '../convert/pixelfly_project.js';
import {blockSparseMatMul} from '../ops/block_sparse_mat_mul.js';
import {denseMatMul} from '../ops/dense_mat_mul.js';
import type {BlockLayout} from '../sparsity/block_layout.js';
import {type BlockSize, blockSizes} from '../sparsity/block_patterns.js';
import {DenseLike, type DenseLikeArgs, withColumns} from './dense_like.js';
import {layerFromDense} from './from_dense.js';
import {toIdentifier} from './from_identifier.js';
import {type Initializer, LiveBlocksInitializer} from './live_blocks_initializer.js';
import {butterflyLayout, type PixelflySizes, sizesThatFit, sizesWithinBudget} from './pixelfly_budget.js';

/**
 * Options of {@link pixelflyDense}. Sizes are given by `density`, or by `butterflySize`, `factors` and `rank`.
 */
export interface PixelflyDenseArgs extends DenseLikeArgs {
  /** Rows (inputs) and columns (outputs) of a block; a number stands for a square one. Default 32. */
  blockSize?: BlockSize;
  /**
   * The budget: how many parameters the butterfly and the low-rank term may have together, as a part of the in·units
   * of a dense kernel; above 0, at most 1. The low-rank term gets a quarter to a third of it, in a rank that is a
   * multiple of 8 where there is one in that range; the butterfly is the largest one that fits into the rest.
   */
  density?: number;
  /** Bands k of the butterfly: a power of two, at most as many as inputs and as units. */
  butterflySize?: number;
  /** Butterfly factors f, from 0 (only the diagonal) to log2 k. */
  factors?: number;
  /** Columns of the low-rank term's first factor and rows of its second. Default 0: there is no such term. */
  rank?: number;
  /** So many of the first inputs and the first units have all their blocks live, in whole blocks. Default 0. */
  globalSize?: number;
  /** Weighs the two terms for each example by a gate of its own, in place of ½ each. Default false. */
  gated?: boolean;
  /**
   * Makes a dense kernel [in, units], of which the sparse kernel takes the live blocks, times √(in / live inputs of the
   * output). Default U(±1/√in), of which only the live blocks are made.
   */
  kernelInitializer?: DenseLikeArgs['kernelInitializer'];
  /** On the sparse kernel and on both low-rank factors. */
  kernelRegularizer?: DenseLikeArgs['kernelRegularizer'];
}

interface LowRankWeights {
  in: LayerVariable;
  out: LayerVariable;
}

interface DenseWeights {
  kernel: LayerVariable;
  bias: LayerVariable;
}

/** The layer that {@link pixelflyDense} makes. */
export class PixelflyDense extends DenseLike {
  static readonly className = 'PixelflyDense';

  private readonly blockSize: BlockSize;
  private readonly globalSize: number;
  private readonly gated: boolean;
  private readonly kernelInitializer: Initializer | undefined;
  /** The given sizes, or the budget that they are chosen from once the input is known. */
  private sizes: PixelflySizes | {density: number};

  private liveLayout: BlockLayout | undefined;
  private sparseKernel!: LayerVariable;
  private lowRank: LowRankWeights | undefined;
  /** ½, kept beside the low-rank term: a number given to an op would be sent to the GPU anew in every call. */
  private half: Scalar | undefined;
  private gate: DenseWeights | undefined;

  constructor(args: PixelflyDenseArgs) {
    super('pixelflyDense', args);
    this.sizes = this.checkedSizes(args);
    this.blockSize = blockSizes(args.blockSize ?? 32);
    this.globalSize = args.globalSize ?? 0;
    this.gated = args.gated ?? false;
    this.kernelInitializer = this.optional('kernelInitializer', args);
  }

  private checkedSizes(args: PixelflyDenseArgs): PixelflySizes | {density: number} {
    const {density, butterflySize, factors, rank, gated} = args;
    if (density != null) {
      const given = Object.entries({butterflySize, factors, rank}).filter(([, value]) => value != null);
      if (given.length > 0) {
        throw new Error(`pixelflyDense: ${given[0][0]} cannot be given beside density, which chooses it.`);
      }
      if (!(density > 0 && density <= 1)) {
        throw new Error(`pixelflyDense: density must be above 0 and at most 1, got ${density}.`);
      }
      return {density};
    }
    if (butterflySize == null || factors == null) {
      const missing = butterflySize == null ? 'butterflySize' : 'factors';
      throw new Error(`pixelflyDense: ${missing} is missing; give density, or butterflySize and factors.`);
    }
    this.assertInteger('rank', rank ?? 0, 0);
    if (gated && !rank) throw new Error('pixelflyDense: gated needs a low-rank term to weigh, got rank 0.');
    return {butterflySize, factors, rank: rank ?? 0};
  }

  protected override buildMatrix(): void {
    const {inputs, units, blockSize, globalSize, seed} = this;
    const kernel = {inputs, units, blockSize, globalSize};
    const sizes = 'density' in this.sizes ? sizesWithinBudget({...kernel, ...this.sizes}) : this.sizes;
    const layout = butterflyLayout(kernel, sizes);
    this.sizes = sizes;
    this.liveLayout = layout;

    const firstBlocks = new LiveBlocksInitializer({layout, inputs, units}, this.kernelInitializer, seed);
    this.sparseKernel = this.addKernel('sparse_kernel', [layout.nnz, ...layout.blockSize], firstBlocks);
    if (sizes.rank > 0) {
      // With equal seeds the two factors would hold the same numbers, and their product would not have unit variance.
      const lecun = (shift: number) => initializers.leCunUniform({seed: seed === undefined ? undefined : seed + shift});
      this.lowRank = {
        in: this.addKernel('low_rank_in', [inputs, sizes.rank], lecun(1)),
        out: this.addKernel('low_rank_out', [sizes.rank, units], lecun(2)),
      };
      if (!this.gated) this.half = keep(scalar(0.5));
    }
    if (this.gated) {
      this.gate = {
        kernel: this.addWeight('gate_kernel', [inputs, 1], 'float32', initializers.zeros()),
        bias: this.addWeight('gate_bias', [1], 'float32', initializers.zeros()),
      };
    }
  }

  protected override product(x: Tensor2D, bias: Tensor | undefined): Tensor {
    return this.gate ? this.gatedTerms(x, this.gate, bias) : this.evenTerms(x, bias);
  }

  /** ½·x·W_sparse + ½·x·V·U + bias. The bias rides on a product, because y may be large. */
  private evenTerms(x: Tensor2D, bias: Tensor | undefined): Tensor {
    const {lowRank, half} = this;
    const kernel = this.sparseKernel.read();
    if (!lowRank || !half) {
      const sparse = this.sparseProduct(x, kernel);
      return bias ? add(sparse, bias) : sparse;
    }
    const factors = readFactors(lowRank);
    const addBias = bias as Tensor1D | undefined;
    // Halves are exact, so the smaller factors are halved: those of a few examples, or the weights of a batch.
    if (x.size <= kernel.size + factors.in.size) {
      const halved: Tensor2D = mul(x, half);
      return add(this.sparseProduct(halved, kernel), lowRankProduct(halved, factors, addBias));
    }
    const halvedFactors: LowRankFactors = {...factors, in: mul(factors.in, half)};
    return add(this.sparseProduct(x, mul(kernel, half)), lowRankProduct(x, halvedFactors, addBias));
  }

  /** g·x·W_sparse + (1 − g)·x·V·U + bias. */
  private gatedTerms(x: Tensor2D, gate: DenseWeights, bias: Tensor | undefined): Tensor {
    const g = sigmoid(add(matMul(x, gate.kernel.read() as Tensor2D), gate.bias.read()));
    const lowRank = lowRankProduct(x, readFactors(this.lowRank as LowRankWeights));
    const y = add(lowRank, mul(g, sub(this.sparseProduct(x, this.sparseKernel.read()), lowRank)));
    return bias ? add(y, bias) : y;
  }

  /** x·W_sparse. Inputs are padded to whole blocks with zeros, and outputs of padded columns are cut off. */
  private sparseProduct(x: Tensor2D, values: Tensor): Tensor2D {
    const {layout} = this;
    const [rows] = layout.shape;
    return withColumns(blockSparseMatMul(withColumns(x, rows), values, {layout, mode: 'dds'}) as Tensor2D, this.units);
  }

  /**
   * Sets the weights to those of the projection of a dense kernel [in, units], an even gate included; resolves to the
   * distance.
   */
  async project(kernel: Tensor2D): Promise<number> {
    const {layout, rank} = this;
    const {sparse, lowRankIn, lowRankOut, error} = await pixelflyProject(kernel, {layout, rank});
    tidy(() => {
      // Beside a low-rank term, both count half.
      this.sparseKernel.write(this.lowRank ? mul(sparse, 2) : sparse);
      this.lowRank?.in.write(mul(lowRankIn as Tensor2D, Math.SQRT2));
      this.lowRank?.out.write(mul(lowRankOut as Tensor2D, Math.SQRT2));
      for (const weight of [this.gate?.kernel, this.gate?.bias]) weight?.write(zerosLike(weight.read()));
    });
    dispose([sparse, lowRankIn, lowRankOut].filter((tensor) => tensor !== undefined));
    return error;
  }

  /** The live blocks of the sparse kernel [in, units]. */
  get layout(): BlockLayout {
    if (!this.liveLayout) throw new Error(`pixelflyDense: layer ${this.name} has no layout before it is built.`);
    return this.liveLayout;
  }

  /**
   * How many parameters butterfly and low-rank term really have, padding included, as a part of the in·units of a dense
   * kernel. (`layout.density` is the part of the blocks that is live.)
   */
  get density(): number {
    const {nnz, blockSize} = this.layout;
    return (nnz * blockSize[0] * blockSize[1] + this.rank * (this.inputs + this.units)) / (this.inputs * this.units);
  }

  private get rank(): number {
    return 'rank' in this.sizes ? this.sizes.rank : 0;
  }

  /** A line that says what `model.summary()` has no column for: live blocks, rank and density. */
  override toString(): string {
    const {nnz, rowBlocks, colBlocks, blockSize} = this.layout;
    return (
      `${this.name}: ${this.inputs} → ${this.units}, ${nnz} of ${rowBlocks * colBlocks} blocks of ` +
      `${blockSize.join(' × ')}, rank ${this.rank}, ${(100 * this.density).toFixed(1)} % of a dense kernel's parameters`
    );
  }

  /** A built layer is saved with the sizes that were chosen for it, so that a later rule for budgets cannot misread it. */
  override getConfig(): serialization.ConfigDict {
    return {
      ...super.getConfig(),
      ...this.sizes,
      blockSize: [...blockSizes(this.blockSize)],
      globalSize: this.globalSize,
      gated: this.gated,
      kernelInitializer: this.kernelInitializer ? toIdentifier(this.kernelInitializer) : null,
    };
  }

  /** Frees the weights and, on the backend, the indices of live blocks, when no model uses the layer any more. */
  override dispose(): ReturnType<layers.Layer['dispose']> {
    const result = super.dispose();
    if (result.refCountAfterDispose === 0) {
      this.layout.dispose();
      this.half?.dispose();
    }
    return result;
  }
}

serialization.registerClass(PixelflyDense);

type LowRankFactors = Record<keyof LowRankWeights, Tensor2D>;

function readFactors(weights: LowRankWeights): LowRankFactors {
  return {in: weights.in.read() as Tensor2D, out: weights.out.read() as Tensor2D};
}

/** x·V·U, and the bias where there is one. */
function lowRankProduct(x: Tensor2D, factors: LowRankFactors, bias?: Tensor1D): Tensor2D {
  return denseMatMul(denseMatMul(x, factors.in), factors.out, {bias});
}

/**
 * A layer in the place of `tf.layers.dense` with fewer parameters: y = ½·(x·W + x·V·U) + bias, where W [in, units] is
 * block-sparse, a flat block butterfly, and V [in, rank] and U [rank, units] are dense. With `gated`, the two terms are
 * weighed by g and 1 − g for each example, g = sigmoid(x·gate_kernel + gate_bias), which starts at ½; with rank 0,
 * y = x·W + bias. The input is [.., in], the output [.., units], with at least one axis before.
 *
 * The weights are sparse_kernel [nnz, row size, column size], low_rank_in, low_rank_out, gate_kernel [in, 1], gate_bias
 * [1] and bias. W starts from U(±1/√in)·√(in / live inputs of the output), V and U from LeCun's uniform distribution, so
 * that y has a third of the variance of x, as with a dense kernel from U(±1/√in). Where in or units is no multiple of the
 * block size, blocks at the edge reach beyond the kernel: what lies there is stored and counted, is 0, and changes no result.
 *
 * `layer.density` and `layer.toString()` tell how large the layer really is, `layer.layout` which blocks live.
 * `model.dispose()` frees it all.
 *
 * Source: Chen et al., "Pixelated Butterfly: Simple and Efficient Sparse training for Neural Network Models" (2022,
 * arXiv 2112.00029).
 *
 * ```js
 * const model = tf.sequential();
 * model.add(tf.pixelflyDense({units: 256, density: 0.3, blockSize: 16, activation: 'relu', inputShape: [128]}));
 * model.add(tf.layers.dense({units: 10}));
 * console.log(model.layers[0].toString());
 * model.compile({optimizer: 'adam', loss: 'meanSquaredError'});
 * await model.fit(tf.randomNormal([64, 128]), tf.randomNormal([64, 10]), {epochs: 1, verbose: 0});
 * ```
 *
 * @param args see {@link PixelflyDenseArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument: here, or, where it depends on the input's last axis, when the layer is built.
 */
export function pixelflyDense(args: PixelflyDenseArgs): PixelflyDense {
  return new PixelflyDense(args);
}

/** Options of pixelflyDense.fromDense: those of {@link pixelflyDense} that choose the matrix. */
export type PixelflyMatrixOptions = Pick<
  PixelflyDenseArgs,
  'blockSize' | 'density' | 'butterflySize' | 'factors' | 'rank' | 'globalSize' | 'gated'
>;

/** The parameters of butterfly and low-rank term for a kernel; undefined where the budget has no room for them. */
export function pixelflyParameters(
  {blockSize = 32, globalSize = 0, density, butterflySize, factors, rank = 0}: PixelflyMatrixOptions,
  inputs: number,
  units: number,
): number | undefined {
  const kernel = {inputs, units, blockSize, globalSize};
  const given = butterflySize !== undefined && factors !== undefined && {butterflySize, factors, rank};
  const sizes = density === undefined ? given : sizesThatFit({...kernel, density});
  if (!sizes) return undefined;
  const {nnz} = butterflyLayout(kernel, sizes);
  const [rowSize, colSize] = blockSizes(blockSize);
  return nnz * rowSize * colSize + sizes.rank * (inputs + units);
}

/**
 * A {@link pixelflyDense} layer near to a dense layer that was built (and trained): its matrix is the projection of the
 * kernel, see `pixelflyProject`, which takes a while for thousands of inputs; bias, activation and regularizers are the same.
 *
 * ```js
 * const dense = tf.layers.dense({units: 32, activation: 'relu', inputShape: [64]});
 * const model = tf.sequential({layers: [dense]});
 * const layer = await tf.pixelflyDense.fromDense(dense, {density: 0.5, blockSize: 8});
 * console.log(tf.sequential({layers: [layer]}).predict(tf.ones([3, 64])).shape); // [3, 32]
 * ```
 *
 * @param dense a layer of `tf.layers.dense`.
 * @param options see {@link PixelflyMatrixOptions}.
 * @throws Error if the layer has no kernel, which it gets when it is built, or an option does not fit.
 */
function fromDense(dense: layers.Layer, options: PixelflyMatrixOptions): Promise<PixelflyDense> {
  return layerFromDense('pixelflyDense.fromDense', dense, (args) => new PixelflyDense({...args, ...options}));
}

pixelflyDense.fromDense = fromDense;
