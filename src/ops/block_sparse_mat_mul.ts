/** The op `blockSparseMatMul`. */
import {
  engine,
  op,
  reshape,
  type Tensor,
  Tensor as TensorClass,
  type TensorLike,
  tensor,
  util,
} from '@tensorflow/tfjs-core';
import {registerBlockSparseFallback} from '../../kernels/fallback/block_sparse_mat_mul.js';
import {runBlockSparseMatMul} from '../gradients/block_sparse_gradient.js';
import type {BlockSparseMode} from '../kernel_names.js';
import {BlockLayout} from '../sparsity/block_layout.js';

/** Options of {@link blockSparseMatMul}. */
export interface BlockSparseMatMulOptions {
  /** The live blocks of the sparse matrix: as it is stored, before a transposition, or of the output in mode 'sdd'. */
  layout: BlockLayout;
  /** Output, left and right matrix in this order: 's' is sparse, 'd' is dense. */
  mode: BlockSparseMode;
  /** Multiplies by the transpose of a. Default false. */
  transposeA?: boolean;
  /** Multiplies by the transpose of b. Default false. */
  transposeB?: boolean;
}

const MODES: readonly BlockSparseMode[] = ['sdd', 'dsd', 'dds'];

function blockSparseMatMul_(a: Tensor | TensorLike, b: Tensor | TensorLike, options: BlockSparseMatMulOptions): Tensor {
  const {layout, mode, transposeA = false, transposeB = false} = options ?? {};
  if (!(layout instanceof BlockLayout))
    throw new Error(`blockSparseMatMul: layout must be a BlockLayout, got ${layout}.`);
  if (!MODES.includes(mode)) {
    throw new Error(`blockSparseMatMul: mode must be one of ${MODES.join(', ')}, got '${mode}'.`);
  }
  const matrices = {a: toMatrix('a', a), b: toMatrix('b', b)};
  const call = new ProductShapes(matrices, {layout, mode, transposeA, transposeB});
  registerBlockSparseFallback(engine().backendName);
  const [kernelA, kernelB] = [reshape(matrices.a, call.kernelShape('a')), reshape(matrices.b, call.kernelShape('b'))];
  const product = runBlockSparseMatMul(kernelA, kernelB, {layout, mode, transposeA, transposeB, sumBatch: false});
  return reshape(product, call.outputShape());
}

function toMatrix(name: string, value: Tensor | TensorLike): Tensor {
  const t = value instanceof TensorClass ? value : tensor(value);
  if (t.dtype !== 'float32') {
    throw new Error(`blockSparseMatMul: ${name} must have dtype float32, got ${t.dtype} with shape [${t.shape}].`);
  }
  return t;
}

type Operand = 'a' | 'b';

/** Checks the shapes of one call, and brings them to kernel form: one batch axis, and one of the layout's heads. */
class ProductShapes {
  private readonly leading: number[];

  constructor(
    private readonly matrices: Record<Operand, Tensor>,
    private readonly options: Required<BlockSparseMatMulOptions>,
  ) {
    for (const operand of ['a', 'b'] as const) this.checkOperand(operand);
    const [dense, other] = options.mode === 'dsd' ? (['b', 'a'] as const) : (['a', 'b'] as const);
    this.leading = this.leadingOf(dense);
    const others = this.leadingOf(other);
    const isShared = this.isSparse(other) && others.length === 0;
    if (!isShared && !util.arraysEqual(others, this.leading)) {
      this.fail(`${other} must have the leading axes of ${dense}, [${this.leading}], got [${others}]`);
    }
    this.checkProduct();
  }

  private isSparse(operand: Operand): boolean {
    return this.options.mode[operand === 'a' ? 1 : 2] === 's';
  }

  private checkOperand(operand: Operand): void {
    const {layout} = this.options;
    const {shape, rank} = this.matrices[operand];
    const blocks = [layout.nnz, ...layout.blockSize];
    if (this.isSparse(operand) && !util.arraysEqual(shape.slice(-3), blocks)) {
      this.fail(`${operand} must be the values of the layout's live blocks, [.., ${blocks.join(', ')}]`);
    }
    const ownAxes = layout.heads === 1 ? 2 : 3;
    if (!this.isSparse(operand) && (rank < ownAxes || (ownAxes === 3 && shape[rank - 3] !== layout.heads))) {
      const heads = layout.heads === 1 ? '' : `${layout.heads} (the layout's heads), `;
      this.fail(`${operand} must be a matrix, [.., ${heads}rows, columns]`);
    }
  }

  /** Axes before those of the matrix, of its heads where the layout has several, or of its values. */
  private leadingOf(operand: Operand): number[] {
    const {shape} = this.matrices[operand];
    return shape.slice(0, this.isSparse(operand) || this.options.layout.heads > 1 ? -3 : -2);
  }

  /** Rows and columns of op(a) or op(b). */
  private sidesOf(operand: Operand): number[] {
    const {layout, transposeA, transposeB} = this.options;
    const sides = this.isSparse(operand) ? layout.shape : this.matrices[operand].shape.slice(-2);
    return (operand === 'a' ? transposeA : transposeB) ? [sides[1], sides[0]] : sides;
  }

  private checkProduct(): void {
    const {layout, mode} = this.options;
    const [[rows, inner], [innerOfB, columns]] = [this.sidesOf('a'), this.sidesOf('b')];
    if (inner !== innerOfB) this.fail(`a has ${inner} columns, but b ${innerOfB} rows, after their transpositions`);
    if (mode === 'sdd' && !util.arraysEqual([rows, columns], layout.shape)) {
      this.fail(`the product is ${rows} × ${columns}, but the layout ${layout.shape.join(' × ')}`);
    }
  }

  private fail(message: string): never {
    const {mode, layout, transposeA, transposeB} = this.options;
    const show = (operand: Operand) => `${operand} [${this.matrices[operand].shape.join(', ')}]`;
    const transposed = [transposeA ? ', transposeA' : '', transposeB ? ', transposeB' : ''].join('');
    throw new Error(
      `blockSparseMatMul: ${message}; got ${show('a')}, ${show('b')}, mode '${mode}'${transposed}, ` +
        `a layout of ${layout.rowBlocks} × ${layout.colBlocks} blocks of ${layout.blockSize.join(' × ')}, ${layout.nnz} live.`,
    );
  }

  kernelShape(operand: Operand): number[] {
    const {layout} = this.options;
    const batch = util.sizeFromShape(this.leadingOf(operand));
    const {shape} = this.matrices[operand];
    return this.isSparse(operand) ? [batch, ...shape.slice(-3)] : [batch, layout.heads, ...shape.slice(-2)];
  }

  outputShape(): number[] {
    const {layout, mode} = this.options;
    if (mode === 'sdd') return [...this.leading, layout.nnz, ...layout.blockSize];
    const heads = layout.heads === 1 ? [] : [layout.heads];
    return [...this.leading, ...heads, this.sidesOf('a')[0], this.sidesOf('b')[1]];
  }
}

/**
 * A matrix product of which one matrix is block-sparse: op(a)·op(b), where only the live blocks of `layout` are read or
 * made. The sparse matrix is its live blocks, values [nnz, row size, column size] in the layout's order; in mode 'sdd'
 * the result is (a sampled product), in 'dsd' a, in 'dds' b. Differentiable in a and b, any number of times; gradients
 * of values exist on live blocks only.
 *
 * The CPU, WebGPU and WebGL backends have kernels that visit live blocks only. On the others the sparse matrix is spread
 * out for tfjs's dense product, with its time and memory. What kernels look up about a layout stays on the backend until
 * `layout.dispose()`. WebGL works in quads of elements: with even block sizes it is many times faster than with odd ones.
 *
 * Source: the modes of Gray et al., "GPU kernels for block-sparse weights" (2017), and of Gale et al., MegaBlocks (2022).
 *
 * ```js
 * const layout = tf.BlockLayout.flatButterfly({rows: 128, cols: 64, blockSize: 16, butterflySize: 4, factors: 1});
 * const w = tf.randomNormal([layout.nnz, 16, 16]);
 * const x = tf.randomNormal([10, 128]);
 * const y = tf.blockSparseMatMul(x, w, {layout, mode: 'dds'});
 * console.log(y.shape); // [10, 64]
 * ```
 *
 * @param a dense [.., M, K] float32 ([.., K, M] with transposeA), or the values [.., nnz, row size, column size].
 *   A layout with several heads takes dense matrices [.., heads, M, K], and values of all heads.
 * @param b dense [.., K, N] float32 ([.., N, K] with transposeB), or the values. Leading axes are those of a; values may
 *   have none, and then serve the whole batch.
 * @param options see {@link BlockSparseMatMulOptions}.
 * @returns dense [.., M, N], or in mode 'sdd' the values [.., nnz, row size, column size].
 * @throws Error that names the argument and shows shapes and layout, if one does not fit.
 */
export const blockSparseMatMul = /* @__PURE__ */ op({blockSparseMatMul_}) as typeof blockSparseMatMul_;
