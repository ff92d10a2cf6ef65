/** What one page reports back: the contract between the page and the program that drives it. */
import type {BenchCase} from './cases.js';

export interface Measurement {
  /** Median milliseconds of one call; absent where the case is not timed. */
  milliseconds?: number;
  /** Calls per wait, and the milliseconds per call of every batch. */
  calls?: number;
  batches?: number[];
  /** Peak GPU bytes of the first call above its inputs. */
  peakBytes: number;
  /** By how much the backend's own count of allocated bytes grew in that call; peers have none. */
  backendBytes?: number;
  /**
   * Of a training run: the mean loss of every ten steps, that of text it has not seen after each quarter of the steps, and
   * the model's parameters.
   */
  training?: {losses: number[]; heldOut: number[]; parameters: number};
  /** Of a gpt on WebGPU: peak bytes of its attention alone, forward and backward. */
  attentionBytes?: number;
  /**
   * Largest error of each result, divided by the root mean square of the right answer. Of a gpt the losses of the first
   * and of the last checked step.
   */
  errors: Record<string, number>;
  /** Where the time on the GPU goes, if that was asked for. */
  profile?: ProfileEntry[];
}

/** All dispatches of one call with the same pipeline. */
export interface ProfileEntry {
  label: string;
  dispatches: number;
  milliseconds: number;
}

/** Either a measurement or the reason why there is none. */
export type Outcome = {ok: true; measurement: Measurement} | {ok: false; reason: string};

export interface AdapterDescription {
  /** Every string that the browser tells about the WebGPU adapter: vendor, architecture, description, … */
  adapter: Record<string, string>;
  /** The unmasked renderer of WebGL. */
  webglRenderer: string;
}

/** What the page offers to the program that drives it, as `globalThis.bench`. */
export interface BenchPage {
  describe(): Promise<AdapterDescription>;
  measure(benchCase: BenchCase): Promise<Outcome>;
}
