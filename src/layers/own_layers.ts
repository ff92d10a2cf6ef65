/** The layers of this package as they stand in `tf.layers`. */
import {butterflyDense, kaleidoscopeDense} from './butterfly_dense.js';
import {monarchDense} from './monarch_dense.js';
import {pixelflyDense} from './pixelfly_dense.js';

export const ownLayers = {butterflyDense, kaleidoscopeDense, monarchDense, pixelflyDense};
