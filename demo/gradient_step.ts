/** A step of an optimizer that leaves nothing on the GPU where it throws. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '../src/tf.js';

/** @returns the loss before the step. */
export function takeGradientStep(
  optimizer: tf.Optimizer,
  lossOf: () => tf.Scalar,
  variables: tf.Variable[],
): tf.Scalar {
  try {
    return tf.tidy(() => optimizer.minimize(lossOf, true, variables) as tf.Scalar);
  } catch (error) {
    freeAbandonedTape();
    submitRecorded();
    throw error;
  }
}

/**
 * What the ops of a forward pass save for the backward pass is kept out of reach of `tf.tidy`, and tfjs frees it at the
 * end of the backward pass alone: where one of the two throws, all of it would stay for ever.
 */
function freeAbandonedTape(): void {
  const {state} = tf.engine();
  for (const {saved} of state.activeTape ?? []) tf.dispose(saved);
  state.activeTape = [];
}

/** What was recorded for WebGPU before the error holds its buffers, freed ones too, until it is submitted. */
function submitRecorded(): void {
  if (tf.getBackend() !== 'webgpu') return;
  const backend = tf.backend() as WebGPUBackend;
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.submitQueue();
}
