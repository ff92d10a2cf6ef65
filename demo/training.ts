/** The training loop: steps of Adam on random windows of a text, with a sample of the model's writing now and then. */
import * as tf from '../src/tf.js';
import {generate} from './generation.js';
import {AttentionModel, type ModelSizes} from './model.js';
import {randomBatch, requireLength, type Text} from './text_data.js';

export interface TrainingSettings {
  sizes: ModelSizes;
  batch: number;
  learningRate: number;
}

export interface StepReport {
  /** Counted from 1. */
  step: number;
  loss: number;
  tokensPerSecond: number;
}

export interface TrainingObserver {
  onStep(report: StepReport): void;
  /** A sample of the model's writing as it grows, and the step after which it is written. */
  onSample(text: string, step: number): void;
}

/** Training time between two samples, so that writing takes a small share of any GPU's time. */
const secondsPerSample = 10;
const sampleLength = 160;
const promptLength = 16;
const temperature = 0.8;
/** How much the latest step counts in the tokens per second that are shown. */
const speedMemory = 0.1;

export class LossProblem extends Error {}

export class Training {
  readonly model: AttentionModel;
  private readonly optimizer: tf.AdamOptimizer;
  private stopped = false;
  /** Present while paused; settles on resume. */
  private gate: {opened: Promise<void>; open: () => void} | undefined;
  private tokensPerSecond = 0;
  private nextSample = performance.now() + secondsPerSample * 1000;

  /** Throws `TextProblem` where the text is too short. */
  constructor(
    private readonly text: Text,
    private readonly settings: TrainingSettings,
    private readonly observer: TrainingObserver,
  ) {
    requireLength(text, settings.sizes.context);
    this.model = new AttentionModel(settings.sizes);
    this.optimizer = tf.train.adam(settings.learningRate);
  }

  /** Trains until stopped, then frees everything. Rejects if a step fails, and frees everything then too. */
  async run(): Promise<void> {
    try {
      for (let step = 1; !this.stopped; step++) {
        const report = await this.timedStep(step);
        this.observer.onStep(report);
        if (!Number.isFinite(report.loss)) {
          throw new LossProblem('The loss is no longer a number. Start again with a lower learning rate.');
        }
        if (performance.now() > this.nextSample) await this.writeSample(step);
        await this.gate?.opened;
        await pageTurn();
      }
    } finally {
      this.model.dispose();
      this.optimizer.dispose();
    }
  }

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
    this.resume();
  }

  private async timedStep(step: number): Promise<StepReport> {
    const {batch, sizes} = this.settings;
    const start = performance.now();
    const loss = await this.step();
    const speed = (batch * sizes.context * 1000) / (performance.now() - start);
    // The first step compiles the GPU programs, so it says nothing about the speed of the others.
    if (step > 1) this.tokensPerSecond += (speed - this.tokensPerSecond) * (step === 2 ? 1 : speedMemory);
    return {step, loss, tokensPerSecond: this.tokensPerSecond};
  }

  private async step(): Promise<number> {
    const {batch, sizes} = this.settings;
    const loss = tf.tidy(() => {
      const {tokens, targets} = randomBatch(this.text, batch, sizes.context);
      return this.optimizer.minimize(() => this.model.loss(tokens, targets), true, this.model.variables) as tf.Scalar;
    });
    const [value] = await loss.data();
    loss.dispose();
    return value;
  }

  private async writeSample(step: number): Promise<void> {
    const {bytes} = this.text;
    const start = Math.floor(Math.random() * Math.max(1, bytes.length - promptLength));
    const prompt = bytes.subarray(start, start + promptLength);
    for await (const written of generate(this.model, {prompt, length: sampleLength, temperature})) {
      this.observer.onSample(written, step);
      await this.gate?.opened;
      if (this.stopped) break;
    }
    this.nextSample = performance.now() + secondsPerSample * 1000;
  }
}

/** Lets the page draw and answer between two steps; a timer, because frames stop in a hidden tab. */
function pageTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
