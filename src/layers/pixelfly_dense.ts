/** The layer `pixelflyDense`: a dense layer whose kernel is a block butterfly and a low-rank term. */
import {
  add,
  cast,
  fused,
  matMul,
  mul,
  pad,
  reshape,
  serialization,
  sigmoid,
  slice,
  sub,
  type Tensor,
  type Tensor2D,
  tidy,
} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, layers, type regularizers, type Shape} from '@tensorflow/tfjs-layers';
import {blockSparseMatMul} from '../ops/block_sparse_mat_mul.js';
import type {BlockLayout} from '../sparsity/block_layout.js';
import {type BlockSize, blockSizes} from '../sparsity/block_patterns.js';
import {fromIdentifier, type Identifier, toIdentifier} from './from_identifier.js';
import {type Initializer, LiveBlocksInitializer} from './live_blocks_initializer.js';
import {butterflyLayout, type PixelflySizes, sizesWithinBudget} from './pixelfly_budget.js';

type DenseArgs = Parameters<typeof layers.dense>[0];
type Regularizer = ReturnType<typeof regularizers.l1l2>;

/**
 * Options of {@link pixelflyDense}. Those of `tf.layers.dense` mean what they mean there; its constraints are missing,
 * because the training of tfjs does not apply them. Sizes are given by `density`, or by `butterflySize`, `factors` and
 * `rank`.
 */
export interface PixelflyDenseArgs extends Omit<DenseArgs, 'kernelConstraint' | 'biasConstraint'> {
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
  kernelInitializer?: DenseArgs['kernelInitializer'];
  /** On the sparse kernel and on both low-rank factors. */
  kernelRegularizer?: DenseArgs['kernelRegularizer'];
  /** Makes the first weights the same every time, where no initializer is given that is random in itself. */
  seed?: number;
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
export class PixelflyDense extends layers.Layer {
  static readonly className = 'PixelflyDense';

  private readonly units: number;
  private readonly blockSize: BlockSize;
  private readonly globalSize: number;
  private readonly gated: boolean;
  private readonly useBias: boolean;
  private readonly seed: number | undefined;
  private readonly activation: Activation;
  private readonly kernelInitializer: Initializer | undefined;
  private readonly biasInitializer: Initializer;
  private readonly kernelRegularizer: Regularizer | undefined;
  private readonly biasRegularizer: Regularizer | undefined;
  /** The given sizes, or the budget that they are chosen from once the input is known. */
  private sizes: PixelflySizes | {density: number};

  private inputs = 0;
  private liveLayout: BlockLayout | undefined;
  private sparseKernel!: LayerVariable;
  private lowRank: LowRankWeights | undefined;
  private gate: DenseWeights | undefined;
  private bias: LayerVariable | undefined;

  constructor(args: PixelflyDenseArgs) {
    super(withInputShape(args));
    // A configuration that was saved has null where nothing was given.
    const optional = <T extends serialization.Serializable>(argument: keyof PixelflyDenseArgs): T | undefined =>
      args[argument] == null ? undefined : fromIdentifier(argument, args[argument] as Identifier<T>);
    this.units = args.units;
    this.sizes = checkedSizes(args);
    this.blockSize = blockSizes(args.blockSize ?? 32);
    this.globalSize = args.globalSize ?? 0;
    this.gated = args.gated ?? false;
    this.useBias = args.useBias ?? true;
    this.seed = args.seed ?? undefined;
    this.activation = fromIdentifier<Activation>('activation', args.activation ?? 'linear');
    this.kernelInitializer = optional('kernelInitializer');
    this.biasInitializer = optional<Initializer>('biasInitializer') ?? initializers.zeros();
    this.kernelRegularizer = optional('kernelRegularizer');
    this.biasRegularizer = optional('biasRegularizer');
    this.activityRegularizer = optional('activityRegularizer') as Regularizer;
    this.supportsMasking = true;
    this.inputSpec = [{minNDim: 2}];
  }

  override build(inputShape: Shape | Shape[]): void {
    const inputs = oneShape(inputShape).at(-1);
    if (typeof inputs !== 'number') {
      throw new Error(`pixelflyDense: the last axis of the input must be known, got shape [${inputShape}].`);
    }
    const {units, blockSize, globalSize, seed} = this;
    const kernel = {inputs, units, blockSize, globalSize};
    const sizes = 'density' in this.sizes ? sizesWithinBudget({...kernel, ...this.sizes}) : this.sizes;
    const layout = butterflyLayout(kernel, sizes);
    this.inputs = inputs;
    this.sizes = sizes;
    this.liveLayout = layout;

    const addKernel = (name: string, shape: number[], initializer: Initializer) =>
      this.addWeight(name, shape, 'float32', initializer, this.kernelRegularizer);
    const firstBlocks = new LiveBlocksInitializer({layout, inputs, units}, this.kernelInitializer, seed);
    this.sparseKernel = addKernel('sparse_kernel', [layout.nnz, ...layout.blockSize], firstBlocks);
    if (sizes.rank > 0) {
      // With equal seeds the two factors would hold the same numbers, and their product would not have unit variance.
      const lecun = (shift: number) => initializers.leCunUniform({seed: seed === undefined ? undefined : seed + shift});
      this.lowRank = {
        in: addKernel('low_rank_in', [inputs, sizes.rank], lecun(1)),
        out: addKernel('low_rank_out', [sizes.rank, units], lecun(2)),
      };
    }
    if (this.gated) {
      this.gate = {
        kernel: this.addWeight('gate_kernel', [inputs, 1], 'float32', initializers.zeros()),
        bias: this.addWeight('gate_bias', [1], 'float32', initializers.zeros()),
      };
    }
    if (this.useBias) {
      this.bias = this.addWeight('bias', [units], 'float32', this.biasInitializer, this.biasRegularizer);
    }
    this.inputSpec = [{minNDim: 2, axes: {[-1]: inputs}}];
    this.built = true;
  }

  override call(inputs: Tensor | Tensor[], kwargs: Parameters<layers.Layer['call']>[1]): Tensor {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const input = Array.isArray(inputs) ? inputs[0] : inputs;
      const x = reshape(cast(input, 'float32'), [-1, this.inputs]) as Tensor2D;
      const y = this.gate ? this.gatedTerms(x, this.gate) : this.evenTerms(x);
      return this.activation.apply(reshape(y, [...input.shape.slice(0, -1), this.units]));
    });
  }

  /** ½·x·W_sparse + ½·x·V·U + bias. It is x that is halved, and the bias rides on a product, because y may be large. */
  private evenTerms(x: Tensor2D): Tensor {
    if (!this.lowRank) {
      const sparse = this.sparseProduct(x);
      return this.bias ? add(sparse, this.bias.read()) : sparse;
    }
    const half: Tensor2D = mul(x, 0.5);
    return add(this.sparseProduct(half), this.lowRankProduct(half, this.lowRank, this.bias));
  }

  /** g·x·W_sparse + (1 − g)·x·V·U + bias. */
  private gatedTerms(x: Tensor2D, gate: DenseWeights): Tensor {
    const g = sigmoid(add(matMul(x, gate.kernel.read() as Tensor2D), gate.bias.read()));
    const lowRank = this.lowRankProduct(x, this.lowRank as LowRankWeights);
    const y = add(lowRank, mul(g, sub(this.sparseProduct(x), lowRank)));
    return this.bias ? add(y, this.bias.read()) : y;
  }

  /** x·W_sparse. Inputs are padded to whole blocks with zeros, and outputs of padded columns are cut off. */
  private sparseProduct(x: Tensor2D): Tensor2D {
    const {layout, inputs, units} = this;
    const [rows, columns] = layout.shape;
    const padded =
      rows === inputs
        ? x
        : pad(x, [
            [0, 0],
            [0, rows - inputs],
          ]);
    const product = blockSparseMatMul(padded, this.sparseKernel.read(), {layout, mode: 'dds'}) as Tensor2D;
    return columns === units ? product : slice(product, [0, 0], [-1, units]);
  }

  /** x·V·U, and the bias where there is one. */
  private lowRankProduct(x: Tensor2D, factors: LowRankWeights, bias?: LayerVariable): Tensor2D {
    return fused.matMul({
      a: matMul(x, factors.in.read() as Tensor2D),
      b: factors.out.read() as Tensor2D,
      ...(bias && {bias: bias.read()}),
    }) as Tensor2D;
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape {
    return [...oneShape(inputShape).slice(0, -1), this.units];
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
    const named = (object: serialization.Serializable | undefined) => (object ? toIdentifier(object) : null);
    return {
      ...super.getConfig(),
      ...this.sizes,
      units: this.units,
      blockSize: [...blockSizes(this.blockSize)],
      globalSize: this.globalSize,
      gated: this.gated,
      activation: this.activation.getClassName(),
      useBias: this.useBias,
      seed: this.seed ?? null,
      kernelInitializer: named(this.kernelInitializer),
      biasInitializer: named(this.biasInitializer),
      kernelRegularizer: named(this.kernelRegularizer),
      biasRegularizer: named(this.biasRegularizer),
      activityRegularizer: named(this.activityRegularizer),
    };
  }

  /** Frees the weights and, on the backend, the indices of live blocks, when no model uses the layer any more. */
  override dispose(): ReturnType<layers.Layer['dispose']> {
    const result = super.dispose();
    if (result.refCountAfterDispose === 0) this.layout.dispose();
    return result;
  }
}

serialization.registerClass(PixelflyDense);

/** What tfjs-layers makes of the argument `activation`. */
interface Activation extends serialization.Serializable {
  apply(x: Tensor): Tensor;
}

/** `inputDim` is short for an `inputShape` of one axis, as in `tf.layers.dense`. */
function withInputShape(args: PixelflyDenseArgs): PixelflyDenseArgs {
  const hasShape = args.inputShape != null || args.batchInputShape != null;
  return args.inputDim == null || hasShape ? args : {...args, inputShape: [args.inputDim]};
}

function checkedSizes(args: PixelflyDenseArgs): PixelflySizes | {density: number} {
  const {units, density, butterflySize, factors, rank, gated} = args;
  assertInteger('units', units, 1);
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
  assertInteger('rank', rank ?? 0, 0);
  if (gated && !rank) throw new Error('pixelflyDense: gated needs a low-rank term to weigh, got rank 0.');
  return {butterflySize, factors, rank: rank ?? 0};
}

function assertInteger(argument: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) {
    throw new Error(`pixelflyDense: ${argument} must be an integer from ${least} on, got ${value}.`);
  }
}

function oneShape(shape: Shape | Shape[]): Shape {
  return (Array.isArray(shape[0]) ? shape[0] : shape) as Shape;
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
