/** Gradients of layer normalization. */
import {engine, type GradConfig, type Tensor} from '@tensorflow/tfjs-core';
import {LayerNorm, type LayerNormAttrs, LayerNormBackward, LayerNormWeightsBackward} from '../kernel_names.js';

const layerNormGradient: GradConfig = {
  kernelName: LayerNorm,
  inputsToSave: ['x', 'gamma'],
  outputsToSave: [false, true],
  gradFunc: (dys, [x, gamma, rowStats], attrs) => {
    const {trainsWeights} = attrs as LayerNormAttrs;
    const [dy] = dys as Tensor[];
    const makeWeights = () => engine().runKernel(LayerNormWeightsBackward, {x, rowStats, dy}) as Tensor[];
    // tfjs calls each function below in a tidy of its own, so what two of them share is made out here.
    const shared = trainsWeights ? makeWeights() : undefined;
    const weights = () => shared ?? makeWeights();
    return {
      x: () => engine().runKernel(LayerNormBackward, {x, gamma, rowStats, dy}) as Tensor,
      gamma: () => weights()[0],
      beta: () => weights()[1],
    };
  },
};

/** A gradient of a gradient kernel: says so, instead of tfjs's bare "gradient function not found". */
function secondOrder(kernelName: string): GradConfig {
  return {
    kernelName,
    gradFunc: () => {
      throw new Error('layerNorm has no second-order gradient: its gradient cannot itself be differentiated.');
    },
  };
}

export const layerNormGradients: GradConfig[] = [
  layerNormGradient,
  secondOrder(LayerNormBackward),
  secondOrder(LayerNormWeightsBackward),
];
