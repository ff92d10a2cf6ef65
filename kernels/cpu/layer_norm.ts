/** The CPU kernels of layer normalization: host arrays in, the float64 loops of layer_norm_rows.ts, float32 out. */
import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import {layerNormKernels, layerNormSizes, rowStatsShape} from '../layer_norm_kernels.js';
import {layerNormBackward, layerNormForward, layerNormWeightsBackward, rowStatsOf} from './layer_norm_rows.js';

export const cpuLayerNormKernels = layerNormKernels('cpu', {
  forward({x, gamma, beta}, {epsilon}, backend) {
    const sizes = layerNormSizes(x);
    const [xs, gammas, betas] = [x, gamma, beta].map((t) => read(backend, t));
    const stats = rowStatsOf(xs, sizes, epsilon);
    const y = layerNormForward(xs, gammas, betas, stats, sizes);
    return [write(backend, x.shape, y), write(backend, rowStatsShape(x), stats)];
  },
  backward({x, gamma, rowStats, dy}, backend) {
    const [xs, gammas, stats, dys] = [x, gamma, rowStats, dy].map((t) => read(backend, t));
    return write(backend, x.shape, layerNormBackward(xs, gammas, stats, dys, layerNormSizes(x)));
  },
  weightsBackward({x, rowStats, dy}, backend) {
    const sizes = layerNormSizes(x);
    const [xs, stats, dys] = [x, rowStats, dy].map((t) => read(backend, t));
    const {dGamma, dBeta} = layerNormWeightsBackward(xs, stats, dys, sizes);
    return [write(backend, [sizes.width], dGamma), write(backend, [sizes.width], dBeta)];
  },
});

function read(backend: object, {dataId}: TensorInfo): TypedArray {
  return (backend as MathBackendCPU).data.get(dataId).values as TypedArray;
}

function write(backend: object, shape: number[], values: Float64Array): TensorInfo {
  return (backend as MathBackendCPU).makeTensorInfo(shape, 'float32', Float32Array.from(values));
}
