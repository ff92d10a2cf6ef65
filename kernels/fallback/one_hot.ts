/** One-hot rows. */
import {cast, equal, range, reshape, type Tensor2D, type TensorInfo} from '@tensorflow/tfjs-core';
import {asTensor} from './as_tensor.js';

/**
 * Tokens [rows] as rows [rows, V], 1 in a token's column and 0 elsewhere; all 0 for one outside of [0, V). tfjs's oneHot has
 * no single column, and on wasm makes integers whatever dtype it is told.
 */
export function oneHotRows(tokens: TensorInfo, vocabSize: number): Tensor2D {
  const columns = reshape(range(0, vocabSize, 1, 'int32'), [1, vocabSize]);
  return cast(equal(reshape(asTensor(tokens), [-1, 1]), columns), 'float32');
}
