import {engine, type Tensor2D, type Tensor4D} from '@tensorflow/tfjs-core';
import {registerRotaryEmbeddingFallback} from '../../kernels/fallback/rotary_embedding.js';
import {runRotaryEmbedding} from '../gradients/rotary_embedding_gradient.js';

/**
 * Turns the pair (x[d], x[d + D/2]) of each token by the angle of the pair at the token's position. Differentiable in x any
 * number of times.
 *
 * @param x [B, S, H, D], for an even D, whose tokens have the positions from `first` on.
 * @param table [at least first + S, D]: the cosines of each position's D/2 angles, and then their sines.
 */
export function rotaryEmbedding(x: Tensor4D, table: Tensor2D, first: number): Tensor4D {
  registerRotaryEmbeddingFallback(engine().backendName);
  return runRotaryEmbedding(x, table, {first, inverse: false});
}
