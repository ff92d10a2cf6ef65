/** Making a layer with a structured matrix out of one of `tf.layers.dense`. */
import type {Tensor, Tensor2D} from '@tensorflow/tfjs-core';
import type {layers} from '@tensorflow/tfjs-layers';
import type {DenseLike, DenseLikeArgs} from './dense_like.js';

/** A layer that can take the matrix nearest to a dense kernel. */
export interface ProjectingLayer extends DenseLike {
  /** Takes the matrix of its kind nearest to a kernel [in, units]; resolves to the Frobenius norm of the difference. */
  project(kernel: Tensor2D): Promise<number>;
}

/** The arguments with which a structured layer does what the dense one does, but for its matrix. */
export function argsOfDense(dense: layers.Layer): DenseLikeArgs {
  const config = dense.getConfig() as Record<string, unknown>;
  const taken = [
    'units',
    'useBias',
    'activation',
    'biasInitializer',
    'kernelRegularizer',
    'biasRegularizer',
    'activityRegularizer',
    'trainable',
    'dtype',
    'batchInputShape',
  ].filter((name) => config[name] != null);
  return Object.fromEntries(taken.map((name) => [name, config[name]])) as unknown as DenseLikeArgs;
}

/**
 * The kernel [in, units] of a dense layer, and its bias.
 *
 * @throws Error if the layer has no kernel, which it gets when it is built.
 */
export function weightsOfDense(functionName: string, dense: layers.Layer): {kernel: Tensor2D; bias?: Tensor} {
  const kernel = weightNamed(dense, 'kernel')?.read();
  if (kernel?.rank !== 2) throw new Error(`${functionName}: layer ${dense.name} has no kernel; build it first.`);
  return {kernel: kernel as Tensor2D, bias: weightNamed(dense, 'bias')?.read()};
}

/** Gives a built layer the projection of a dense layer's kernel, and its bias; resolves to the distance of the kernels. */
export async function projectDense(functionName: string, dense: layers.Layer, layer: ProjectingLayer): Promise<number> {
  const {kernel, bias} = weightsOfDense(functionName, dense);
  if (bias) weightNamed(layer, 'bias')?.write(bias);
  return layer.project(kernel);
}

/**
 * Builds a layer, in no model yet, that is the nearest of its kind to a dense one.
 *
 * @param make makes the layer from the arguments that the dense one has in common with it.
 */
export async function layerFromDense<L extends ProjectingLayer>(
  functionName: string,
  dense: layers.Layer,
  make: (args: DenseLikeArgs) => L,
): Promise<L> {
  const [inputs] = weightsOfDense(functionName, dense).kernel.shape;
  const layer = make({inputShape: [inputs], ...argsOfDense(dense)});
  layer.build([null, inputs]);
  try {
    await projectDense(functionName, dense, layer);
  } catch (error) {
    for (const weight of layer.weights) weight.dispose();
    throw error;
  }
  return layer;
}

function weightNamed(layer: layers.Layer, name: string) {
  return layer.weights.find(({originalName}) => originalName.endsWith(`/${name}`));
}
