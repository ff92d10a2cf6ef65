/** The kernels that make layer normalization available on a backend, and their sizes. */
import {type KernelConfig, type TensorInfo, util, zeros} from '@tensorflow/tfjs-core';
import {
  LayerNorm,
  type LayerNormAttrs,
  LayerNormBackward,
  type LayerNormBackwardInputs,
  type LayerNormInputs,
  LayerNormWeightsBackward,
  type LayerNormWeightsBackwardInputs,
} from '../src/kernel_names.js';

/** What a backend does for each of them; it is never asked about empty tensors, which GPU kernels cannot bind. */
export interface LayerNormKernelFuncs {
  /** [y, rowStats] */
  forward(inputs: LayerNormInputs, attrs: LayerNormAttrs, backend: object): TensorInfo[];
  backward(inputs: LayerNormBackwardInputs, backend: object): TensorInfo;
  /** [dGamma, dBeta] */
  weightsBackward(inputs: LayerNormWeightsBackwardInputs, backend: object): TensorInfo[];
}

/** The kernels of one backend, ready to be registered. */
export function layerNormKernels(backendName: string, funcs: LayerNormKernelFuncs): KernelConfig[] {
  return [
    {
      kernelName: LayerNorm,
      backendName,
      kernelFunc: (call) => {
        const inputs = call.inputs as LayerNormInputs;
        const {x} = inputs;
        if (isEmpty(x)) return [zeros(x.shape), zeros(rowStatsShape(x))];
        return funcs.forward(inputs, call.attrs as unknown as LayerNormAttrs, call.backend);
      },
    },
    {
      kernelName: LayerNormBackward,
      backendName,
      kernelFunc: (call) => {
        const inputs = call.inputs as LayerNormBackwardInputs;
        return isEmpty(inputs.x) ? zeros(inputs.x.shape) : funcs.backward(inputs, call.backend);
      },
    },
    {
      kernelName: LayerNormWeightsBackward,
      backendName,
      kernelFunc: (call) => {
        const inputs = call.inputs as LayerNormWeightsBackwardInputs;
        const {width} = layerNormSizes(inputs.x);
        return isEmpty(inputs.x) ? [zeros([width]), zeros([width])] : funcs.weightsBackward(inputs, call.backend);
      },
    },
  ];
}

function isEmpty({shape}: TensorInfo): boolean {
  return util.sizeFromShape(shape) === 0;
}

export interface LayerNormSizes {
  rows: number;
  /** W */
  width: number;
}

export function layerNormSizes({shape}: TensorInfo): LayerNormSizes {
  return {rows: util.sizeFromShape(shape.slice(0, -1)), width: shape[shape.length - 1]};
}

/** Two numbers for each row of x. */
export function rowStatsShape({shape}: TensorInfo): number[] {
  return [...shape.slice(0, -1), 2];
}
