/** Any attention's results and the gradients of their weighted sum, on the active backend, as host arrays. */
import * as tf from '@tensorflow/tfjs-core';
import {type Differentiable, differentiableInputs, type HostInputs, toTensor} from './attention_inputs.js';

export interface AttentionResult {
  output: Float32Array;
  lse: Float32Array;
  gradients: Partial<Record<Differentiable, Float32Array>>;
}

export type DifferentiableTensors = Record<'q' | 'k' | 'v', tf.Tensor> &
  Partial<Record<'bias' | 'alibiSlopes', tf.Tensor>>;

/** What `attend` gives, and the gradients of Σ output·outputWeights + Σ lse·lseWeights. */
export async function resultOf(
  inputs: HostInputs,
  attend: (tensors: DifferentiableTensors) => {output: tf.Tensor; lse: tf.Tensor},
): Promise<AttentionResult> {
  const names = differentiableInputs(inputs);
  const tensors = tf.tidy(() => {
    const values = names.map((name) => toTensor(inputs[name] as NonNullable<(typeof inputs)[typeof name]>));
    const byName = (xs: tf.Tensor[]) =>
      Object.fromEntries(names.map((name, i) => [name, xs[i]])) as DifferentiableTensors;
    const {output, lse} = attend(byName(values));
    const weighted = (...xs: tf.Tensor[]) => {
      const results = attend(byName(xs));
      const outputSum = tf.sum(tf.mul(results.output, toTensor(inputs.outputWeights)));
      return tf.add(outputSum, tf.sum(tf.mul(results.lse, toTensor(inputs.lseWeights)))) as tf.Scalar;
    };
    return [output, lse, ...tf.grads(weighted)(values)];
  });
  const [output, lse, ...gradients] = await Promise.all(tensors.map((t) => t.data<'float32'>()));
  tf.dispose(tensors);
  return {output, lse, gradients: Object.fromEntries(names.map((name, i) => [name, gradients[i]]))};
}
