/** Entry of the bundle for script tags: adds the ops to the global `tf`, which another script tag has brought. */
import './require_global_tf.js';
import * as flash from './index.js';

declare const tf: object;

Object.assign(tf, flash);
