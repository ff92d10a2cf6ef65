/** tfjs-flash/layers: layers for models of @tensorflow/tfjs-layers, and the registration of all that they run on. */
import '../index.js';

export {loadLayersModel} from '../convert/keras_attention.js';
export {
  type GenerateOptions,
  type GenerateTokensOptions,
  generate,
  generateTokens,
} from '../generation/generate.js';
export type {AttentionPattern} from './attention_layouts.js';
export {
  ButterflyDense,
  type ButterflyDenseArgs,
  butterflyDense,
  type KaleidoscopeDenseArgs,
  kaleidoscopeDense,
} from './butterfly_dense.js';
export {
  type AttentionCache,
  type AttentionCallOptions,
  type AttentionInputName,
  FlashMultiHeadAttention,
  type FlashMultiHeadAttentionArgs,
  flashMultiHeadAttention,
  MultiHeadAttention,
} from './flash_multi_head_attention.js';
export {FusedLayerNorm, type FusedLayerNormArgs, fusedLayerNorm} from './fused_layer_norm.js';
export {type GptArgs, gpt, LanguageModel} from './gpt.js';
export {MonarchDense, type MonarchDenseArgs, monarchDense} from './monarch_dense.js';
export {PixelflyDense, type PixelflyDenseArgs, pixelflyDense} from './pixelfly_dense.js';
export {PositionEmbedding, type PositionEmbeddingArgs, positionEmbedding} from './position_embedding.js';
export {TokenEmbedding, type TokenEmbeddingArgs, tokenEmbedding} from './token_embedding.js';
export {type MlpOptions, TransformerBlock, type TransformerBlockArgs, transformerBlock} from './transformer_block.js';
