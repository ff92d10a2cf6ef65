/** tfjs-flash/layers: layers for models of @tensorflow/tfjs-layers, and the registration of all that they run on. */
import '../index.js';

export {
  type Sparsifiable,
  type SparsifiedLayer,
  type SparsifiedModel,
  type SparsifyOptions,
  sparsify,
} from '../convert/sparsify.js';
export {
  ButterflyDense,
  type ButterflyDenseArgs,
  butterflyDense,
  type KaleidoscopeDenseArgs,
  kaleidoscopeDense,
} from './butterfly_dense.js';
export {MonarchDense, type MonarchDenseArgs, monarchDense} from './monarch_dense.js';
export {PixelflyDense, type PixelflyDenseArgs, type PixelflyMatrixOptions, pixelflyDense} from './pixelfly_dense.js';
