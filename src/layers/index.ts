/** tfjs-flash/layers: layers for models of @tensorflow/tfjs-layers, and the registration of all that they run on. */
import '../index.js';

export {PixelflyDense, type PixelflyDenseArgs, pixelflyDense} from './pixelfly_dense.js';
