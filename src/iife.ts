/** Entry of the bundle for script tags: adds the ops to the global `tf`, which another script tag has brought. */
import './require_global_tf.js';
import * as flash from './index.js';

declare const tf: {layers?: object; registerOp?: flash.RegisterOp};

Object.assign(tf, flash);
if (tf.registerOp) flash.registerFlashAttentionOp(tf.registerOp);
// Beside tfjs-core alone there is no Layer to extend, so the module of the layers must not even start.
if (tf.layers) {
  const layers: typeof import('./layers/index.js') = require('./layers/index.js');
  const {ownLayers}: typeof import('./layers/own_layers.js') = require('./layers/own_layers.js');
  Object.assign(tf, layers, {layers: {...tf.layers, ...ownLayers}});
}
