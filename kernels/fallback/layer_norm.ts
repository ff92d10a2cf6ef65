/** Layer normalization for backends that have no kernels of their own: tfjs's ops. */
import {
  add,
  concat,
  getKernel,
  mean,
  mul,
  registerKernel,
  reshape,
  rsqrt,
  slice,
  square,
  sub,
  sum,
  type Tensor,
  type TensorInfo,
  tidy,
} from '@tensorflow/tfjs-core';
import {LayerNorm} from '../../src/kernel_names.js';
import {layerNormKernels, rowStatsShape} from '../layer_norm_kernels.js';
import {asTensor} from './as_tensor.js';

/** Makes layer normalization available on a backend that has no kernels of its own. */
export function registerLayerNormFallback(backendName: string): void {
  if (getKernel(LayerNorm, backendName)) return;
  const kernels = layerNormKernels(backendName, {
    forward: ({x, gamma, beta}, {epsilon}) =>
      tidy(() => {
        const rows = rowsOf(x);
        const rowMean = mean(rows, -1, true);
        const centred = sub(rows, rowMean);
        const factor = rsqrt(add(mean(square(centred), -1, true), epsilon));
        const y = add(mul(mul(centred, factor), asTensor(gamma)), asTensor(beta));
        return [reshape(y, x.shape), reshape(concat([rowMean, factor], -1), rowStatsShape(x))];
      }),
    backward: ({x, gamma, rowStats, dy}) =>
      tidy(() => {
        const {normalized, factor} = normalizedRows(x, rowStats);
        const g = mul(rowsOf(dy), asTensor(gamma));
        const projection = mul(normalized, mean(mul(g, normalized), -1, true));
        return reshape(mul(factor, sub(sub(g, mean(g, -1, true)), projection)), x.shape);
      }),
    weightsBackward: ({x, rowStats, dy}) =>
      tidy(() => [sum(mul(rowsOf(dy), normalizedRows(x, rowStats).normalized), 0), sum(rowsOf(dy), 0)]),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

/** [rows, W] */
function rowsOf(t: TensorInfo): Tensor {
  return reshape(asTensor(t), [-1, t.shape[t.shape.length - 1]]);
}

function normalizedRows(x: TensorInfo, rowStats: TensorInfo): {normalized: Tensor; factor: Tensor} {
  const stat = (index: number) => slice(rowsOf(rowStats), [0, index], [-1, 1]);
  const factor = stat(1);
  return {normalized: mul(sub(rowsOf(x), stat(0)), factor), factor};
}
