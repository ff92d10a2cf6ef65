/** What the page measures, whatever it computes. */
import type * as tf from '@tensorflow/tfjs-core';

/** What a call computes, by name. The caller disposes it. */
export type Results = Record<string, tf.Tensor>;
export type Call = () => Results;

export interface Subject {
  /** On the GPU before anything is counted. */
  inputs: Results;
  /** Makes what the call needs besides its inputs, and the call. */
  prepare(): Call;
  /** Compares what the call gave with float64: the error of each result. Throws where one is too large. */
  check(results: Results): Promise<Record<string, number>>;
}
