/** Training steps with flash and with standard attention at a growing context: their time, and their memory. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {randomIntegers} from '../bench/page/random_values.js';
import {nextTask} from '../src/generation/next_task.js';
import * as tf from '../src/tf.js';
import {type BackendName, memoryMeter, reportOfGpu, webglRanOutOfMemory} from './backend.js';
import {formatBytes} from './dom.js';
import {takeGradientStep} from './gradient_step.js';
import {trainedVariables} from './language_model.js';
import {outOfMemory, Problem, reasonOf, reasonOfReport} from './problem.js';

export interface ComparedSizes {
  layers: number;
  heads: number;
  width: number;
}

export type Contender = 'flash' | 'standard';

/** What came of steps of one kind at one context. */
export interface ComparisonPoint {
  contender: Contender;
  context: number;
  seconds?: number;
  /** The most that was in use during a step, above what was before the model was made. */
  bytes?: number;
  /** Why it does not run; a short sentence. */
  failure?: string;
}

const FIRST_CONTEXT = 64;
const LAST_CONTEXT = 16384;
const TIMED_STEPS = 2;
/** Seconds of a step beyond which the next, longer one is not taken. */
const PATIENCE = 4;
const VOCABULARY = 256;

/**
 * Yields a point for each contender and context, until both have failed or have become too slow here. Where the GPU fails
 * altogether, which aborts the signal with its Problem, the steps that were under way have failed, and it ends.
 */
export async function* compareAttention(
  sizes: ComparedSizes,
  backend: BackendName,
  signal: AbortSignal,
): AsyncGenerator<ComparisonPoint> {
  const going = new Set<Contender>(['flash', 'standard']);
  for (let context = FIRST_CONTEXT; context <= LAST_CONTEXT && going.size > 0; context *= 2) {
    for (const contender of [...going]) {
      const measured = measure(contender, context, sizes, backend, signal);
      const point = await Promise.race([measured, failureOfGpu(signal)]);
      // Also of steps that came to their end, the numbers mean nothing then.
      if (signal.reason instanceof Problem) yield {contender, context, failure: signal.reason.message};
      if (signal.aborted || !point) return;
      yield point;
      if (point.failure !== undefined || (point.seconds ?? 0) > PATIENCE) going.delete(contender);
    }
  }
}

/** Resolves when the GPU fails: on a lost WebGL context, reads never end. */
function failureOfGpu(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => signal.reason instanceof Problem && resolve(undefined));
  });
}

async function measure(
  contender: Contender,
  context: number,
  sizes: ComparedSizes,
  backend: BackendName,
  signal: AbortSignal,
): Promise<ComparisonPoint> {
  const tooLarge = contender === 'standard' ? scoresDoNotFit(context, sizes.heads, backend) : undefined;
  if (tooLarge) return {contender, context, failure: tooLarge};
  const errors = new ErrorScopes(backend);
  try {
    const figures = await timeSteps(contender, context, sizes, signal);
    const failure = await errors.close();
    return failure ? {contender, context, failure} : {contender, context, ...figures};
  } catch (error) {
    await reportOfGpu();
    return {contender, context, failure: (await errors.close()) ?? reasonOf(error)};
  }
}

async function timeSteps(contender: Contender, context: number, sizes: ComparedSizes, signal: AbortSignal) {
  memoryMeter.restart();
  const before = memoryMeter.peakBytes;
  const options = {contextLength: context, vocabSize: VOCABULARY, position: 'rotary', seed: 1} as const;
  const model = tf.gpt({...sizes, ...options, attention: contender});
  const optimizer = tf.fusedAdam(1e-4);
  const variables = trainedVariables(model);
  const inputs = tf.tensor2d(randomIntegers(1, context, VOCABULARY), [1, context], 'int32');
  const step = async () => {
    const lossOf = () => tf.languageModelLoss(inputs, model.apply(inputs) as tf.Tensor);
    const loss = takeGradientStep(optimizer, lossOf, variables);
    await loss.data();
    loss.dispose();
    await nextTask();
  };
  try {
    // The first step compiles the GPU programs.
    await step();
    const start = performance.now();
    for (let i = 0; i < TIMED_STEPS && !signal.aborted; i++) await step();
    return {seconds: (performance.now() - start) / 1000 / TIMED_STEPS, bytes: memoryMeter.peakBytes - before};
  } finally {
    optimizer.dispose();
    inputs.dispose();
    model.dispose();
  }
}

/** Why the score matrix [1, H, S, S] cannot be on this GPU, which would refuse it in silence. */
function scoresDoNotFit(context: number, heads: number, backend: BackendName): string | undefined {
  const elements = heads * context ** 2;
  if (backend === 'webgpu') {
    const {maxStorageBufferBindingSize: limit} = (tf.backend() as WebGPUBackend).device.limits;
    if (4 * elements <= limit) return undefined;
    return `Its score matrix of ${formatBytes(4 * elements)} is more than a buffer of this GPU holds.`;
  }
  if (backend === 'webgl') {
    const {gl} = (tf.backend() as MathBackendWebGL).getGPGPUContext();
    const limit = 4 * gl.getParameter(gl.MAX_TEXTURE_SIZE) ** 2;
    if (elements <= limit) return undefined;
    return `Its score matrix of ${formatBytes(4 * elements)} is more than a texture of this GPU holds.`;
  }
  return undefined;
}

/** Catches what the GPU reports while it is open, which then does not count as a failure of the page. */
class ErrorScopes {
  private readonly device: GPUDevice | undefined;

  constructor(backend: BackendName) {
    // What was reported before does not count.
    webglRanOutOfMemory();
    if (backend !== 'webgpu') return;
    this.device = (tf.backend() as WebGPUBackend).device;
    this.device.pushErrorScope('out-of-memory');
    this.device.pushErrorScope('validation');
  }

  /** @returns what was reported, in a sentence. */
  async close(): Promise<string | undefined> {
    if (!this.device) return webglRanOutOfMemory() ? outOfMemory : undefined;
    const [validation, memory] = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    const report = memory ?? validation;
    return report ? reasonOfReport(report) : undefined;
  }
}
