/** The op `layerNorm`. */
import {engine, op, type Tensor, type Tensor1D, type TensorLike, Variable} from '@tensorflow/tfjs-core';
import {convertToTensor} from '@tensorflow/tfjs-core/dist/tensor_util_env';
import {registerLayerNormFallback} from '../../kernels/fallback/layer_norm.js';
import {LayerNorm, type LayerNormAttrs} from '../kernel_names.js';

/** Options of {@link layerNorm}. */
export interface LayerNormOptions {
  /** Added to the variance. Default 1e-5. */
  epsilon?: number;
}

function layerNorm_<T extends Tensor>(
  x: T | TensorLike,
  gamma: Tensor1D | TensorLike,
  beta: Tensor1D | TensorLike,
  {epsilon = 1e-5}: LayerNormOptions = {},
): T {
  const inputs = {
    x: convertToTensor(x, 'x', 'layerNorm'),
    gamma: convertToTensor(gamma, 'gamma', 'layerNorm'),
    beta: convertToTensor(beta, 'beta', 'layerNorm'),
  };
  assertInputs(inputs);
  if (!(epsilon > 0 && Number.isFinite(epsilon))) {
    throw new Error(`layerNorm: epsilon must be a positive number, got ${epsilon}.`);
  }
  registerLayerNormFallback(engine().backendName);
  const attrs: LayerNormAttrs = {epsilon, trainsWeights: !(isFrozen(inputs.gamma) && isFrozen(inputs.beta))};
  const [y] = engine().runKernel(LayerNorm, inputs, attrs) as Tensor[];
  return y as T;
}

/** Whether training leaves it as it is, by which optimizers know. */
function isFrozen(t: Tensor): boolean {
  return t instanceof Variable && !t.trainable;
}

function assertInputs(inputs: Record<'x' | 'gamma' | 'beta', Tensor>): void {
  const {x, gamma, beta} = inputs;
  const fail = (message: string): never => {
    const given = Object.entries(inputs).map(([name, {dtype, shape}]) => `${name} ${dtype} [${shape.join(', ')}]`);
    throw new Error(`layerNorm: ${message}; got ${given.join(', ')}.`);
  };
  const width = x.shape[x.rank - 1];
  if (!(x.dtype === 'float32' && width >= 1)) fail('x must be float32 [.., W] with W at least 1');
  for (const [name, {dtype, rank, size}] of Object.entries({gamma, beta})) {
    if (dtype !== 'float32' || rank !== 1 || size !== width) fail(`${name} must be float32 [W] = [${width}]`);
  }
}

/**
 * Normalizes over the last axis: (x − mean) / √(variance + epsilon)·gamma + beta. On WebGPU that is one kernel, where tfjs's
 * ops write five tensors of the size of x. The mean is subtracted before squares are taken.
 *
 * Differentiable once, in x, gamma and beta. Sums run in a fixed order, so that results and gradients are the same bit for
 * bit. Kept for the gradient are x, gamma and two numbers per row.
 *
 * The CPU, WebGPU and WebGL backends have kernels; on the others tfjs's ops do the work.
 *
 * Source: Ba, Kiros and Hinton, "Layer Normalization" (2016, arXiv 1607.06450).
 *
 * ```js
 * const y = tf.layerNorm(tf.tensor2d([[1, 3], [7, 5]]), tf.tensor1d([2, 2]), tf.tensor1d([1, 1]), {epsilon: 1e-9});
 * console.log((await y.data()).join(' ')); // [-1 3 3 -1]
 * ```
 *
 * @param x float32 [.., W], of rank 1 or more.
 * @param gamma float32 [W].
 * @param beta float32 [W].
 * @param options see {@link LayerNormOptions}.
 * @returns float32, of the shape of x.
 * @throws Error that names the argument and shows the shapes, if one does not fit.
 */
export const layerNorm = /* @__PURE__ */ op({layerNorm_}) as typeof layerNorm_;
