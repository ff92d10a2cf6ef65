/**
 * Drop-in namespace: all of TensorFlow.js plus the ops and layers of this package, so that changing
 * `import * as tf from '@tensorflow/tfjs'` to `import * as tf from 'tfjs-flash/tf'` is the whole migration.
 */
import * as tfjs from '@tensorflow/tfjs';
import {ownLayers} from './layers/own_layers.js';

export * from '@tensorflow/tfjs';
export * from './index.js';
export * from './layers/index.js';
// Both tfjs and this package have it.
export {loadLayersModel} from './layers/index.js';

/** `tf.layers` of TensorFlow.js, and the layers of this package. */
export const layers: typeof tfjs.layers & typeof ownLayers = {...tfjs.layers, ...ownLayers};

/** The classes of `tf.layers`, as types. */
export declare namespace layers {
  type Layer = tfjs.layers.Layer;
  type RNN = tfjs.layers.RNN;
  type RNNCell = tfjs.layers.RNNCell;
}
