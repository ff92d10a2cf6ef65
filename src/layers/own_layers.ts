/** The layers of this package as they stand in `tf.layers`. */
import {butterflyDense, kaleidoscopeDense} from './butterfly_dense.js';
import {flashMultiHeadAttention} from './flash_multi_head_attention.js';
import {fusedLayerNorm} from './fused_layer_norm.js';
import {monarchDense} from './monarch_dense.js';
import {pixelflyDense} from './pixelfly_dense.js';
import {positionEmbedding} from './position_embedding.js';
import {tokenEmbedding} from './token_embedding.js';
import {transformerBlock} from './transformer_block.js';

export const ownLayers = {
  butterflyDense,
  flashMultiHeadAttention,
  fusedLayerNorm,
  kaleidoscopeDense,
  monarchDense,
  pixelflyDense,
  positionEmbedding,
  tokenEmbedding,
  transformerBlock,
};
