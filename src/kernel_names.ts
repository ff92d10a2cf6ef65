/**
 * The contract between ops, gradients and kernels: the name, inputs and attributes of every kernel. Ops fill it, the
 * kernels of each backend read it, and nothing else is shared between them.
 */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {BlockLayout} from './sparsity/block_layout.js';

/** Which axis order q, k, v and the output have in memory: [B, H, S, D] or [B, S, H, D]. */
export type AttentionOrder = 'BHSD' | 'BSHD';

/** Whether products are of float32 numbers, or may be of float16 numbers with float32 sums. */
export type AttentionPrecision = 'highest' | 'fast';

/**
 * Inputs of attention. Shapes in BHSD order; in BSHD order the S and H axes of q, k, v are exchanged, and only theirs.
 * Optional inputs are absent keys, never `undefined` values, which tfjs's tape cannot hold.
 */
export type FlashAttentionInputs = {
  /** [B, H, Sq, D] float32. */
  q: TensorInfo;
  /** [B, Hk, Sk, D] float32. */
  k: TensorInfo;
  /** [B, Hk, Sk, Dv] float32. */
  v: TensorInfo;
  /** [1|B, 1|H, 1|Sq, 1|Sk] float32, added to the scores. */
  bias?: TensorInfo;
  /** [1|B, 1|H, 1|Sq, 1|Sk] bool, true = visible. */
  mask?: TensorInfo;
  /** [1|B, H] float32. */
  alibiSlopes?: TensorInfo;
  /** [B] int32: query rows that exist in each sample. */
  queryLengths?: TensorInfo;
  /** [B] int32: keys that exist in each sample. */
  keyLengths?: TensorInfo;
};

/** What an attention kernel is told besides its tensors; every field is always set. */
export type FlashAttentionAttrs = {
  /** Factor on q·k before anything else. */
  scale: number;
  /** Scores s become softcap·tanh(s / softcap); 0 switches it off. */
  softcap: number;
  /** Keys visible before the diagonal; −1 = all. */
  left: number;
  /** Keys visible after the diagonal; −1 = all, 0 = causal. */
  right: number;
  /** Probability in [0, 1) that an attention probability is dropped. */
  dropoutRate: number;
  /** Unsigned 32-bit seed of the dropout generator. */
  dropoutSeed: number;
  order: AttentionOrder;
  precision: AttentionPrecision;
  /**
   * Keys that a query may see by the layout, whose blocks are those of the score matrix [Sq, Sk]; of one head or of all H.
   * Null where there is none.
   */
  layout: BlockLayout | null;
  /** Whether the caller may send a gradient into lse; if not, the backward kernels are spared reading it. */
  lseHasGradient: boolean;
  /**
   * Whether the call is recorded, so that its gradient may follow. Backward recomputes the scores, and what rounding does to
   * large ones cancels only if forward has added up q·k in the same order.
   */
  taped: boolean;
  /** No sample has more keys than this: Sk, or less where the host knows the key lengths. */
  mostKeys: number;
  /** The keys of the inputs, in order: the gradient gets the saved tensors as a bare list and names them by this. */
  inputNames: string[];
};

/**
 * Attention forward. Outputs: output [B, H, Sq, Dv] (in `order`), and softmaxStats [B, H, Sq, 2], two numbers per row:
 *
 * - a reference near the row's scores, the largest of them for one;
 * - the sum of exp(score − reference) over the keys that the row sees, so that lse = reference + log(sum).
 *
 * Two numbers, because probabilities recomputed from lse alone would all be off by its rounding, a relative 2⁻²⁴·|lse|,
 * and a gradient that sums over whole rows, that of a slope for one, would add it up. The largest score, because
 * exp(score − reference) rounds the less, the smaller the difference.
 *
 * A row that sees no key has {@link LOWEST_FLOAT32} and 1.
 */
export const FlashAttention = 'FlashAttention';

/**
 * Inputs of both backward kernels: those of the forward pass, its outputs, and the gradients that arrive at them.
 * `dSoftmaxStats` is there only where `lseHasGradient`; its first number is the gradient of lse, its second follows from it.
 */
export type FlashAttentionBackwardInputs = FlashAttentionInputs & {
  output: TensorInfo;
  softmaxStats: TensorInfo;
  dOutput: TensorInfo;
  dSoftmaxStats?: TensorInfo;
};

/** Gradient for the three matrices. Outputs: dq, dk, dv, each shaped as its input. */
export const FlashAttentionBackward = 'FlashAttentionBackward';

/** Gradient for `bias`, summed over its broadcast axes. Output: dBias, shaped as bias. */
export const FlashAttentionBiasBackward = 'FlashAttentionBiasBackward';

/** Gradient for `alibiSlopes`, summed over the batch if they are shared. Output: dSlopes, shaped as alibiSlopes. */
export const FlashAttentionSlopesBackward = 'FlashAttentionSlopesBackward';

/** The value of lse in a row that sees no key: the lowest finite float32. */
export const LOWEST_FLOAT32 = -3.4028234663852886e38;

/** Scores below this (a bias of −Infinity, say) hide their key exactly as a mask does. */
export const HIDDEN_BELOW = -1e38;

/** Which of the three matrices of a product is sparse, in the order output, left, right: 's' for sparse, 'd' for dense. */
export type BlockSparseMode = 'sdd' | 'dsd' | 'dds';

/**
 * Inputs of a block-sparse product. A dense matrix is [batch, heads, rows, columns] float32, with the heads of the
 * layout; a sparse one is its live blocks, values [batch or 1, nnz, row size, column size], in the layout's order.
 */
export type BlockSparseMatMulInputs = {
  a: TensorInfo;
  b: TensorInfo;
};

export type BlockSparseMatMulAttrs = {
  mode: BlockSparseMode;
  /** Of the sparse matrix as it is stored, whether the product transposes it or not; of the output in mode 'sdd'. */
  layout: BlockLayout;
  transposeA: boolean;
  transposeB: boolean;
  /** In mode 'sdd': adds up the batch, so that the values are [1, nnz, …]: the gradient of values that it shares. */
  sumBatch: boolean;
};

/** op(a)·op(b). Output: dense [batch, heads, rows, columns], or in mode 'sdd' the values of the live blocks. */
export const BlockSparseMatMul = 'BlockSparseMatMul';

/** Inputs of the softmax over live blocks: `values` [batch, nnz, row size, column size] float32, in the layout's order. */
export type BlockSparseSoftmaxInputs = {values: TensorInfo};

export type BlockSparseSoftmaxAttrs = {
  layout: BlockLayout;
  /** Factor on the values before anything else. Values below {@link HIDDEN_BELOW} are hidden before it. */
  scale: number;
  /** Hides column j from row i where j > i + columns − rows of the layout. */
  causal: boolean;
};

/** Softmax along each row of the sparse matrix, over its visible elements; 0 where hidden. Output: shaped as values. */
export const BlockSparseSoftmax = 'BlockSparseSoftmax';

/** Both shaped as the values of {@link BlockSparseSoftmax}. */
export type BlockSparseSoftmaxBackwardInputs = {
  probabilities: TensorInfo;
  dProbabilities: TensorInfo;
};

export type BlockSparseSoftmaxBackwardAttrs = {layout: BlockLayout};

/** P∘(dP − Σ_row P∘dP): the gradient for the scaled values. Defined for any P, not only for probabilities. */
export const BlockSparseSoftmaxBackward = 'BlockSparseSoftmaxBackward';

/**
 * Inputs of a product with butterfly matrices, one per stack: `x` [batch, input size] and `twiddle`
 * [stacks, blocks, log2 n, n / 2, 2, 2], float32. Complex numbers come as two tensors of the same shape each, because tfjs has
 * no gradients of complex64; either both imaginary parts are there or none.
 */
export type ButterflyMultiplyInputs = {
  x: TensorInfo;
  twiddle: TensorInfo;
  xImag?: TensorInfo;
  twiddleImag?: TensorInfo;
};

export type ButterflyMultiplyAttrs = {
  /** Whether the first block's factors have strides 1, 2, …, n / 2, rather than the other way round; blocks alternate. */
  increasingStride: boolean;
  /** Columns of the output: the first so many of stacks·n, or of n where the matrix is transposed. */
  outputSize: number;
  /** Multiplies by the transposes, whose inputs stand side by side and whose outputs are added up. */
  transpose: boolean;
  /** Multiplies by the complex conjugates. */
  conjugate: boolean;
};

/**
 * The stacks' outputs side by side: y[:, s·n + i] = (B_s x)[i], where x is continued with zeros up to n. Outputs: y
 * [batch, output size], and its imaginary part where the inputs have some.
 */
export const ButterflyMultiply = 'ButterflyMultiply';

/** The inputs of {@link ButterflyMultiply}, and the gradients that arrive at its outputs. */
export type ButterflyMultiplyBackwardInputs = ButterflyMultiplyInputs & {
  dy: TensorInfo;
  dyImag?: TensorInfo;
};

/** Outputs: dx and dTwiddle, or dx, dxImag, dTwiddle and dTwiddleImag; shaped as their inputs. */
export const ButterflyMultiplyBackward = 'ButterflyMultiplyBackward';

/**
 * Where the elements of a block lie in a row of numbers: 'blocked', side by side, so that block g of size s begins at
 * g·s; or 'interleaved', at g, g + blocks, g + 2·blocks, ….
 */
export type BlockOrder = 'blocked' | 'interleaved';

/** Inputs of a block-diagonal product: `x` [batch, blocks·inner] and `w` [blocks, outer, inner], float32. */
export type BlockDiagonalMatMulInputs = {
  x: TensorInfo;
  w: TensorInfo;
};

export type BlockDiagonalMatMulAttrs = {
  /** How the elements of x are divided into blocks. */
  input: BlockOrder;
  /** How those of the output are. */
  output: BlockOrder;
  /** Multiplies by the transpose of each block, w being [blocks, inner, outer]. */
  transpose: boolean;
};

/** y[b, j of g] = Σ_i w[g, j, i]·x[b, i of g] in every block g. Output: [batch, blocks·outer]. */
export const BlockDiagonalMatMul = 'BlockDiagonalMatMul';

/** Inputs: `x` [batch, blocks·inner] and `dy` [batch, blocks·outer], float32. */
export type BlockDiagonalWeightsInputs = {
  x: TensorInfo;
  dy: TensorInfo;
};

export type BlockDiagonalWeightsAttrs = {
  /** How the elements of x are divided into blocks. */
  input: BlockOrder;
  /** How those of dy are. */
  output: BlockOrder;
  blocks: number;
};

/**
 * The gradient for the weights of a block-diagonal product without transpose, dw[g, j, i] = Σ_b dy[b, j of g]·x[b, i of
 * g]. That of one with transpose is the same with x and dy, and their orders, exchanged. Output: [blocks, outer, inner].
 */
export const BlockDiagonalWeights = 'BlockDiagonalWeights';

/** Inputs: `x` and `w` of a block-diagonal product, and `dy` like its output. */
export type BlockDiagonalBackwardInputs = BlockDiagonalMatMulInputs & {
  dy: TensorInfo;
};

/**
 * Both gradients of a block-diagonal product, whose attrs these are. Outputs: `[dx, dw]`, like `x` and `w`. Only on
 * backends where that takes less time than one gradient after the other.
 */
export const BlockDiagonalBackward = 'BlockDiagonalBackward';

/** Inputs of layer normalization, float32: `x` [.., W], of rank 1 or more, `gamma` [W] and `beta` [W]. */
export type LayerNormInputs = {
  x: TensorInfo;
  gamma: TensorInfo;
  beta: TensorInfo;
};

export type LayerNormAttrs = {
  /** Added to the variance. */
  epsilon: number;
  /**
   * Whether the gradients for gamma and beta are likely wanted: if so they are made together, before either is asked for; if
   * not, each when it is.
   */
  trainsWeights: boolean;
};

/**
 * (x − mean) / √(variance + epsilon)·gamma + beta, row by row. Outputs: y, shaped as x, and rowStats [.., 2], each row's
 * mean and 1 / √(variance + epsilon).
 */
export const LayerNorm = 'LayerNorm';

/** The inputs of {@link LayerNorm} that its gradient for x depends on, its second output, and what arrives at its first. */
export type LayerNormBackwardInputs = {
  x: TensorInfo;
  gamma: TensorInfo;
  rowStats: TensorInfo;
  dy: TensorInfo;
};

/** The gradient of {@link LayerNorm} for x. Output: dx, shaped as x. */
export const LayerNormBackward = 'LayerNormBackward';

/** As those of {@link LayerNormBackward}. */
export type LayerNormWeightsBackwardInputs = Omit<LayerNormBackwardInputs, 'gamma'>;

/** The gradients of {@link LayerNorm} for gamma and beta. Outputs: dGamma and dBeta, [W] each. */
export const LayerNormWeightsBackward = 'LayerNormWeightsBackward';

/**
 * Inputs of rotary position embedding, float32: `x` [B, S, H, D], for an even D, and `table` [positions, D]. A row of the
 * table has the cosines of its position's D / 2 angles, and then their sines.
 */
export type RotaryEmbeddingInputs = {
  x: TensorInfo;
  table: TensorInfo;
};

export type RotaryEmbeddingAttrs = {
  /** The position of the first token, whose row is the first that is read; those of all others follow. */
  first: number;
  /** Turns by the negative angles: the inverse, which is the transpose. */
  inverse: boolean;
};

/** Turns each pair (x[d], x[d + D / 2]) by its angle. Output: shaped as x. */
export const RotaryEmbedding = 'RotaryEmbedding';

/** Inputs: `destination` [B, capacity, H, D] and `rows` [B, count, H, D], float32; neither is empty. */
export type AppendRowsInputs = {
  destination: TensorInfo;
  rows: TensorInfo;
};

export type AppendRowsAttrs = {
  /** Where on the second axis of the destination the rows go; they end within its capacity. */
  offset: number;
};

/**
 * Writes rows over those of the destination. Output: the destination with them, shaped as it. Backends with a kernel of
 * their own write into the destination's storage and return that: whatever shares it (clones, reshapes) changes too.
 */
export const AppendRows = 'AppendRows';

/** Inputs of gelu: `x`, of any shape with W elements in its last axis, and `bias` [W], which is added first. */
export type GeluInputs = {
  x: TensorInfo;
  bias?: TensorInfo;
};

export type GeluAttrs = {
  /** The formula of GPT-2 in place of x·Φ(x). */
  approximate: boolean;
};

/** Output: gelu(x + bias), shaped as x. */
export const Gelu = 'Gelu';

/** The inputs of {@link Gelu}, and the gradient that arrives at its output. */
export type GeluBackwardInputs = GeluInputs & {dy: TensorInfo};

/** dy·gelu′(x + bias), the gradient for x; that for bias is the sum of its rows. Output: shaped as x. */
export const GeluBackward = 'GeluBackward';

/** Inputs: `x` [rows, W] float32. */
export type ColumnSumsInputs = {x: TensorInfo};

/** The sum of the rows, in an order that never changes. Output: [W]. */
export const ColumnSums = 'ColumnSums';

/** Inputs of a language model's loss: `logits` [rows, V] float32, and `targets` [rows] int32, the tokens that followed. */
export type LanguageModelLossInputs = {
  logits: TensorInfo;
  targets: TensorInfo;
};

/**
 * Outputs: the mean of the rows' cross-entropies, a scalar; and softmaxStats [rows, 2], two numbers per row as those of
 * {@link FlashAttention}: its largest logit, and the sum of exp(logit − largest).
 *
 * A row whose target is not in [0, V) counts as if that were its most probable token, and in the gradient has no one-hot.
 */
export const LanguageModelLoss = 'LanguageModelLoss';

/** The inputs of {@link LanguageModelLoss}, its second output, and the gradient that arrives at its first, a scalar. */
export type LanguageModelLossBackwardInputs = LanguageModelLossInputs & {
  softmaxStats: TensorInfo;
  dLoss: TensorInfo;
};

/** (softmax − one-hot)·dLoss / rows, the gradient for the logits. Output: [rows, V]. */
export const LanguageModelLossBackward = 'LanguageModelLossBackward';

/** Inputs: matrices `a` and `b`, float32, and a `bias` [columns of the product] or none. */
export type DenseMatMulInputs = {
  a: TensorInfo;
  b: TensorInfo;
  bias?: TensorInfo;
};

export type DenseMatMulAttrs = {
  /** Whether `a` is [inner, rows]. */
  transposeA: boolean;
  /** Whether `b` is [columns, inner]. */
  transposeB: boolean;
};

/** a·b + bias. Output: [rows, columns]. */
export const DenseMatMul = 'DenseMatMul';

/** Inputs: `x` [rows, W] float32, and `tokens` [rows] int32, one for each row. */
export type TokenSumsInputs = {
  x: TensorInfo;
  tokens: TensorInfo;
};

export type TokenSumsAttrs = {
  /** V: tokens are the integers from 0 to V − 1; rows of others count nowhere. */
  vocabSize: number;
};

/** For each token the sum of its rows, in their order: the gradient of a table of which they were looked up. Output: [V, W]. */
export const TokenSums = 'TokenSums';

/** Inputs of Adam's step: a weight, its gradient and its moments, all of one shape. */
export type AdamStepInputs = {
  value: TensorInfo;
  gradient: TensorInfo;
  firstMoment: TensorInfo;
  secondMoment: TensorInfo;
};

export type AdamStepAttrs = {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** 1 − beta1ᵗ and 1 − beta2ᵗ, with the number of this step for t. */
  correction1: number;
  correction2: number;
};

/** Outputs: the weight and its two moments after the step. */
export const AdamStep = 'AdamStep';
