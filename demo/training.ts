/** The training loop: steps of Adam, and now and then the held-out loss, a sample of writing and a copy to keep. */
import {nextTask} from '../src/generation/next_task.js';
import * as tf from '../src/tf.js';
import {webglRanOutOfMemory} from './backend.js';
import {takeGradientStep} from './gradient_step.js';
import {type Artifacts, artifactsOf, trainedVariables} from './language_model.js';
import {outOfMemory, Problem} from './problem.js';
import type {Batch, TrainingText} from './text_data.js';
import type {TextTokenizer} from './tokenizer.js';
import {writeText} from './writing.js';

export interface TrainingSettings {
  batch: number;
  context: number;
  learningRate: number;
  steps: number;
  /** What the samples continue. */
  prompt: string;
  /** The most tokens that a sample adds. */
  sampleLength: number;
}

export interface HeldOutLoss {
  /** Steps taken before it was measured. */
  step: number;
  loss: number;
}

/** How far a training is, and all that it has shown; plain data, so that it can be kept. */
export interface Progress {
  /** Steps taken. */
  step: number;
  /** Of each step. */
  losses: number[];
  heldOut: HeldOutLoss[];
  /** What the model wrote before the first step. */
  before: string;
  /** What it wrote last, and after how many steps. */
  now: string;
  nowStep: number;
}

export function noProgress(): Progress {
  return {step: 0, losses: [], heldOut: [], before: '', now: '', nowStep: 0};
}

/** State of Adam, by the names of its tensors. */
export type OptimizerState = {name: string; shape: number[]; values: Float32Array | Int32Array}[];

export interface Snapshot {
  artifacts: Artifacts;
  optimizer: OptimizerState;
}

export interface TrainingObserver {
  /** A step was taken; `secondsPerStep` is 0 while that is not known. */
  onStep(progress: Progress, secondsPerStep: number): void;
  onHeldOut(progress: Progress): void;
  /** A sample has grown. */
  onSample(progress: Progress): void;
  /** Keeps a copy, so that the training can go on from here another time. */
  onKeep(snapshot: Snapshot, progress: Progress): Promise<void>;
}

/** Seconds of training between two samples, and those that one may take. */
const SECONDS_PER_SAMPLE = 30;
const SAMPLE_SECONDS = 8;
/** How many times the held-out loss is measured. */
const HELD_OUT_TIMES = 10;
/** Seconds of training between two copies, the most that an interruption can lose; the page says so too. */
const SECONDS_PER_COPY = 20;
/** How much longer training goes on than the last copy took, where that is more. */
const COPY_SHARE = 20;
/** How much the latest step counts in the time per step that is shown. */
const SPEED_MEMORY = 0.1;

export class Training {
  private readonly optimizer: tf.AdamOptimizer;
  private readonly variables: tf.Variable[];
  private readonly writing = new AbortController();
  private stopped = false;
  private failure: Problem | undefined;
  /** Present while paused; settles on resume. */
  private gate: {opened: Promise<void>; open: () => void} | undefined;
  private secondsPerStep = 0;
  private stepsTimed = 0;
  private copyWanted = false;
  /** The first copy is due after the first step. */
  private nextCopy = 0;
  private nextSample = 0;

  /** @param progress is changed as training goes on. */
  constructor(
    private readonly model: tf.LayersModel,
    private readonly tokenizer: TextTokenizer,
    private readonly text: TrainingText,
    private readonly settings: TrainingSettings,
    readonly progress: Progress,
    private readonly observer: TrainingObserver,
  ) {
    this.optimizer = tf.fusedAdam(settings.learningRate);
    this.variables = trainedVariables(model);
  }

  /**
   * Trains until all steps are taken or it is stopped, and keeps a copy then. The model stays, all else is freed.
   *
   * @param state of Adam, where a training goes on.
   * @throws Problem if the loss is no number any more, or the one given to `fail`.
   */
  async run(state: OptimizerState | undefined): Promise<void> {
    const {progress} = this;
    try {
      if (state) await this.restoreOptimizer(state);
      if (progress.step === 0) await this.begin();
      this.nextSample = performance.now() + SECONDS_PER_SAMPLE * 1000;
      while (progress.step < this.settings.steps && !this.stopped) {
        await this.takeStep();
        await this.lookAround();
        await this.rest();
      }
      this.throwFailure();
      if (this.stopped) await this.keep();
    } finally {
      this.optimizer.dispose();
    }
  }

  /** Before it rests, it keeps a copy. */
  pause(): void {
    if (this.gate) return;
    let open = () => {};
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.gate = {opened, open};
  }

  resume(): void {
    this.gate?.open();
    this.gate = undefined;
  }

  /** `run` resolves soon after. */
  stop(): void {
    this.stopped = true;
    this.writing.abort();
    this.resume();
  }

  /** `run` rejects soon after, and keeps nothing: what lies on the GPU means nothing any more. */
  fail(problem: Problem): void {
    this.failure ??= problem;
    this.stop();
  }

  /** A copy will be kept after the step that is under way. */
  requestCopy(): void {
    this.copyWanted = true;
  }

  private async begin(): Promise<void> {
    await this.writeSample((text) => {
      this.progress.before = text;
    });
    if (!this.stopped) await this.measureHeldOut();
  }

  private async takeStep(): Promise<void> {
    const {progress} = this;
    const {batch} = this.settings;
    const start = performance.now();
    const loss = tf.tidy(() => {
      const stretches = this.text.batch(progress.step, batch);
      return takeGradientStep(this.optimizer, () => this.lossOf(stretches), this.variables);
    });
    const value = await lossValue(loss);
    this.throwFailure();
    if (!Number.isFinite(value)) {
      throw new Problem('The loss is no longer a number. Lower the learning rate and press Resume or Start.');
    }
    progress.step++;
    progress.losses.push(value);
    this.noteSpeed((performance.now() - start) / 1000);
    this.observer.onStep(progress, this.secondsPerStep);
  }

  private noteSpeed(seconds: number): void {
    this.stepsTimed++;
    // The first step compiles the GPU programs, so it says nothing about the speed of the others.
    if (this.stepsTimed === 1) return;
    this.secondsPerStep += (seconds - this.secondsPerStep) * (this.stepsTimed === 2 ? 1 : SPEED_MEMORY);
  }

  /** What is due after a step. */
  private async lookAround(): Promise<void> {
    const {step} = this.progress;
    const {steps} = this.settings;
    const isLast = step === steps;
    if (isLast || step % Math.max(1, Math.round(steps / HELD_OUT_TIMES)) === 0) await this.measureHeldOut();
    if (this.stopped) return;
    if (isLast || performance.now() > this.nextSample) {
      this.progress.nowStep = step;
      await this.writeSample((text) => {
        this.progress.now = text;
      });
      this.nextSample = performance.now() + SECONDS_PER_SAMPLE * 1000;
    }
    if (isLast || this.copyWanted || performance.now() > this.nextCopy) await this.keep();
  }

  private async rest(): Promise<void> {
    if (this.gate) {
      await this.keep();
      await this.gate?.opened;
    }
    await nextTask();
  }

  private async measureHeldOut(): Promise<void> {
    let sum = 0;
    let stretches = 0;
    for (const batch of this.text.heldOutBatches(this.settings.batch)) {
      const [count] = batch.inputs.shape;
      const loss = tf.tidy(() => this.lossOf(batch));
      tf.dispose([batch.inputs, batch.targets]);
      sum += (await lossValue(loss)) * count;
      stretches += count;
    }
    this.throwFailure();
    this.progress.heldOut.push({step: this.progress.step, loss: sum / stretches});
    this.observer.onHeldOut(this.progress);
  }

  private async writeSample(take: (text: string) => void): Promise<void> {
    const {prompt, sampleLength: maxTokens} = this.settings;
    const options = {prompt, maxTokens, seconds: SAMPLE_SECONDS, signal: this.writing.signal};
    for await (const text of writeText(this.model, this.tokenizer, options)) {
      this.throwFailure();
      take(text);
      this.observer.onSample(this.progress);
    }
    this.throwFailure();
  }

  private async keep(): Promise<void> {
    const start = performance.now();
    this.copyWanted = false;
    const snapshot = {artifacts: await artifactsOf(this.model), optimizer: await this.optimizerState()};
    this.throwFailure();
    await this.observer.onKeep(snapshot, this.progress);
    const took = performance.now() - start;
    this.nextCopy = performance.now() + Math.max(SECONDS_PER_COPY * 1000, COPY_SHARE * took);
  }

  private async optimizerState(): Promise<OptimizerState> {
    const [iterations, ...moments] = await this.optimizer.getWeights();
    const state: OptimizerState = [];
    for (const {name, tensor} of [iterations, ...moments]) {
      state.push({name, shape: tensor.shape, values: (await tensor.data()) as Float32Array | Int32Array});
    }
    iterations.tensor.dispose();
    return state;
  }

  private async restoreOptimizer(state: OptimizerState): Promise<void> {
    const tensors = state.map(({name, shape, values}) => {
      const dtype = values instanceof Int32Array ? 'int32' : 'float32';
      return {name, tensor: tf.tensor(values, shape, dtype)};
    });
    await this.optimizer.setWeights(tensors);
    tf.dispose(tensors.map(({tensor}) => tensor));
  }

  private lossOf({inputs, targets}: Batch): tf.Scalar {
    return tf.languageModelLoss(targets, this.model.apply(inputs) as tf.Tensor);
  }

  private throwFailure(): void {
    if (webglRanOutOfMemory()) this.failure ??= new Problem(outOfMemory);
    if (this.failure) throw this.failure;
  }
}

async function lossValue(loss: tf.Scalar): Promise<number> {
  const [value] = await loss.data();
  loss.dispose();
  return value;
}
