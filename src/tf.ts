/**
 * Drop-in namespace: all of TensorFlow.js plus the ops of this package, so that changing
 * `import * as tf from '@tensorflow/tfjs'` to `import * as tf from 'tfjs-flash/tf'` is the whole migration.
 */
export * from '@tensorflow/tfjs';
export * from './index.js';
