/** The layers of this package as they stand in `tf.layers`. */
import {butterflyDense, kaleidoscopeDense} from './butterfly_dense.js';
import {flashMultiHeadAttention} from './flash_multi_head_attention.js';
import {monarchDense} from './monarch_dense.js';
import {pixelflyDense} from './pixelfly_dense.js';

export const ownLayers = {butterflyDense, flashMultiHeadAttention, kaleidoscopeDense, monarchDense, pixelflyDense};
