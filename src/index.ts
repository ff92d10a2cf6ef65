/** tfjs-flash: registers the kernels and gradients, chains the ops onto tensors, and exports the public API. */
import {registerGradient, registerKernel} from '@tensorflow/tfjs-core';
import {cpuAdamStep} from '../kernels/cpu/adam_step.js';
import {cpuAppendRows} from '../kernels/cpu/append_rows.js';
import {cpuBlockDiagonalKernels} from '../kernels/cpu/block_diagonal.js';
import {cpuBlockSparseMatMul} from '../kernels/cpu/block_sparse_mat_mul.js';
import {cpuBlockSparseSoftmaxKernels} from '../kernels/cpu/block_sparse_softmax.js';
import {cpuButterflyKernels} from '../kernels/cpu/butterfly_multiply.js';
import {cpuColumnSums} from '../kernels/cpu/column_sums.js';
import {cpuKernels} from '../kernels/cpu/flash_attention.js';
import {cpuGeluKernels} from '../kernels/cpu/gelu.js';
import {cpuLanguageModelLossKernels} from '../kernels/cpu/language_model_loss.js';
import {cpuLayerNormKernels} from '../kernels/cpu/layer_norm.js';
import {cpuRotaryEmbedding} from '../kernels/cpu/rotary_embedding.js';
import {cpuTokenSums} from '../kernels/cpu/token_sums.js';
import {webglAdamStep} from '../kernels/webgl/adam_step.js';
import {webglAppendRows} from '../kernels/webgl/append_rows.js';
import {webglBlockDiagonalKernels} from '../kernels/webgl/block_diagonal.js';
import {webglBlockSparseMatMul} from '../kernels/webgl/block_sparse_mat_mul.js';
import {webglBlockSparseSoftmaxKernels} from '../kernels/webgl/block_sparse_softmax.js';
import {webglButterflyKernels} from '../kernels/webgl/butterfly_multiply.js';
import {webglColumnSums} from '../kernels/webgl/column_sums.js';
import {webglDenseMatMul} from '../kernels/webgl/dense_mat_mul.js';
import {webglKernels} from '../kernels/webgl/flash_attention.js';
import {webglGeluKernels} from '../kernels/webgl/gelu.js';
import {webglLanguageModelLossKernels} from '../kernels/webgl/language_model_loss.js';
import {webglLayerNormKernels} from '../kernels/webgl/layer_norm.js';
import {webglRotaryEmbedding} from '../kernels/webgl/rotary_embedding.js';
import {webgpuAdamStep} from '../kernels/webgpu/adam_step.js';
import {webgpuAppendRows} from '../kernels/webgpu/append_rows.js';
import {webgpuBlockDiagonalKernels} from '../kernels/webgpu/block_diagonal.js';
import {webgpuBlockSparseMatMul} from '../kernels/webgpu/block_sparse_mat_mul.js';
import {webgpuBlockSparseSoftmaxKernels} from '../kernels/webgpu/block_sparse_softmax.js';
import {webgpuButterflyKernels} from '../kernels/webgpu/butterfly_multiply.js';
import {webgpuColumnSums} from '../kernels/webgpu/column_sums.js';
import {webgpuDenseMatMul} from '../kernels/webgpu/dense_mat_mul.js';
import {webgpuKernels} from '../kernels/webgpu/flash_attention.js';
import {webgpuGeluKernels} from '../kernels/webgpu/gelu.js';
import {webgpuLanguageModelLossKernels} from '../kernels/webgpu/language_model_loss.js';
import {webgpuLayerNormKernels} from '../kernels/webgpu/layer_norm.js';
import {webgpuRotaryEmbedding} from '../kernels/webgpu/rotary_embedding.js';
import {webgpuTokenSums} from '../kernels/webgpu/token_sums.js';
import {blockDiagonalGradients} from './gradients/block_diagonal_gradient.js';
import {blockSparseMatMulGradient} from './gradients/block_sparse_gradient.js';
import {blockSparseSoftmaxGradients} from './gradients/block_sparse_softmax_gradient.js';
import {butterflyGradients} from './gradients/butterfly_gradient.js';
import {denseMatMulGradient} from './gradients/dense_mat_mul_gradient.js';
import {flashAttentionGradients} from './gradients/flash_attention_gradient.js';
import {geluGradients} from './gradients/gelu_gradient.js';
import {languageModelLossGradients} from './gradients/language_model_loss_gradient.js';
import {layerNormGradients} from './gradients/layer_norm_gradient.js';
import {rotaryEmbeddingGradient} from './gradients/rotary_embedding_gradient.js';
import {chainFlashAttention} from './ops/flash_attention.js';
import {keepingIndexBuffers} from './sparsity/index_buffers.js';

const kernels = [
  cpuKernels,
  webgpuKernels,
  webglKernels,
  cpuBlockSparseMatMul,
  webgpuBlockSparseMatMul,
  webglBlockSparseMatMul,
  cpuBlockSparseSoftmaxKernels,
  webgpuBlockSparseSoftmaxKernels,
  webglBlockSparseSoftmaxKernels,
  cpuButterflyKernels,
  webgpuButterflyKernels,
  webglButterflyKernels,
  cpuBlockDiagonalKernels,
  webgpuBlockDiagonalKernels,
  webglBlockDiagonalKernels,
  cpuLayerNormKernels,
  webgpuLayerNormKernels,
  webglLayerNormKernels,
  cpuRotaryEmbedding,
  webgpuRotaryEmbedding,
  webglRotaryEmbedding,
  cpuAppendRows,
  webgpuAppendRows,
  webglAppendRows,
  cpuColumnSums,
  webgpuColumnSums,
  webgpuDenseMatMul,
  webglColumnSums,
  webglDenseMatMul,
  cpuGeluKernels,
  webgpuGeluKernels,
  webglGeluKernels,
  cpuLanguageModelLossKernels,
  webgpuLanguageModelLossKernels,
  webglLanguageModelLossKernels,
  cpuTokenSums,
  webgpuTokenSums,
  cpuAdamStep,
  webgpuAdamStep,
  webglAdamStep,
].flat();
for (const kernel of kernels) registerKernel(keepingIndexBuffers(kernel));
const gradients = [
  ...flashAttentionGradients,
  blockSparseMatMulGradient,
  ...blockSparseSoftmaxGradients,
  ...butterflyGradients,
  ...blockDiagonalGradients,
  ...geluGradients,
  ...languageModelLossGradients,
  denseMatMulGradient,
  ...layerNormGradients,
  rotaryEmbeddingGradient,
];
for (const gradient of gradients) registerGradient(gradient);
chainFlashAttention();

export {type RegisterOp, registerFlashAttentionOp} from './convert/flash_attention_op.js';
export {type MonarchProjection, type MonarchProjectOptions, monarchProject} from './convert/monarch_project.js';
export {type PixelflyProjection, type PixelflyProjectOptions, pixelflyProject} from './convert/pixelfly_project.js';
export {type ButterflyToDenseOptions, butterflyToDense, monarchToDense} from './convert/to_dense.js';
export {
  type FlashAttentionRewrite,
  type UseFlashAttentionOptions,
  useFlashAttention,
} from './convert/use_flash_attention.js';
export {KeyValueCache, type KeyValueCacheOptions} from './generation/key_value_cache.js';
export {type SampleTokenOptions, sampleToken} from './generation/sampling.js';
export type {BlockSparseMode} from './kernel_names.js';
export {type BlockSparseMatMulOptions, blockSparseMatMul} from './ops/block_sparse_mat_mul.js';
export {type BlockSparseSoftmaxOptions, blockSparseSoftmax} from './ops/block_sparse_softmax.js';
export {type ButterflyMultiplyOptions, butterflyMultiply} from './ops/butterfly_multiply.js';
export type {ComplexPair, MaybeComplex} from './ops/complex_numbers.js';
export {
  type AttentionWithLse,
  type FlashAttentionOptions,
  flashAttention,
  flashAttentionWithLse,
} from './ops/flash_attention.js';
export {type GeluOptions, gelu} from './ops/gelu.js';
export {languageModelLoss} from './ops/language_model_loss.js';
export {type LayerNormOptions, layerNorm} from './ops/layer_norm.js';
export {monarchMatMul} from './ops/monarch_mat_mul.js';
export {type FusedAdam, fusedAdam} from './optimizers/fused_adam.js';
export {registerFlashBackend} from './register_flash_backend.js';
export {BlockLayout, type BlockLayoutJson, type BlockMask} from './sparsity/block_layout.js';
export type {
  AttentionPatternOptions,
  BlockGrid,
  BlockPattern,
  BlockSize,
  ButterflyAttentionOptions,
  FlatButterflyOptions,
  LocalGlobalOptions,
  SequenceLengths,
  SlidingWindowOptions,
} from './sparsity/block_patterns.js';
export {applyTransform, type FastTransform} from './transforms/fast_transform.js';
export * as transforms from './transforms/index.js';
