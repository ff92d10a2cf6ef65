/** The page that trains the demo's language model, and checks the files that come of it. */

import {describeAdapter, type OpenBackend, openBackend} from '../../bench/page/backend.js';
import {ScheduledAdam} from '../../bench/page/scheduled_adam.js';
import {
  heldOutLoss,
  LONGEST_SEQUENCE,
  SHORTEST_TEXT,
  type TextTask,
  trainSteps,
} from '../../bench/page/text_training.js';
import * as tf from '../../src/tf.js';
import {float16Files, MODEL_FILE} from './float16_files.js';
import type {Assignment, PretrainingPage, Settings} from './pretraining.js';

const SEED = 1;
/** Steps between two looks at the loss, which wait for the GPU. */
const STEPS_PER_READ = 10;
/** Lines about the loss, and among them of the held-out loss. */
const LOSS_LINES = 100;
const HELD_OUT_LINES = 10;
/** How much of the held-out loss rounding the weights may cost. */
const ROUNDING_COST = 0.005;
const PROMPT = 'NAME\n    ';
const SAMPLE_LENGTH = 200;

async function pretrain({settings, text: {sha256, packages}, libraryVersion}: Assignment): Promise<void> {
  const text = await readText(settings);
  const backend = await openBackend('webgpu', false);
  const {layers, heads, width, mlp, context, batch, steps, rate} = settings;
  const config = {
    layers,
    heads,
    width,
    mlp,
    contextLength: context,
    vocabSize: 256,
    position: 'rotary' as const,
    seed: SEED,
  };
  const model = tf.gpt(config);
  console.log(`Training ${model.countParams()} parameters on ${text.length} bytes, ${batch} × ${context} in a step.`);
  const loss = await train(backend, taskOf(model, text, settings), settings);

  const origin = {textSha256: sha256, textPackages: packages, libraryVersion};
  const training = {steps, batch, context, rate, bytes: text.length, heldOutLoss: loss, ...origin};
  model.setUserDefinedMetadata({gpt: config, tokenizer: 'bytes', training});
  await model.save(float16Files(putFile));
  model.dispose();

  const saved = await tf.loadLayersModel(fileAddress(MODEL_FILE));
  checkRounding(await heldOutLoss(taskOf(saved, text, settings)), loss);
  console.log(await writeSample(saved, context));
  saved.dispose();
  await backend.faults.check();
}

async function readText({context, bytes}: Settings): Promise<Uint8Array> {
  if (context > LONGEST_SEQUENCE) throw new Error(`The context can be up to ${LONGEST_SEQUENCE}, got ${context}.`);
  const response = await fetch('text.txt');
  const text = new Uint8Array(await response.arrayBuffer()).subarray(0, bytes);
  if (!response.ok || text.length < SHORTEST_TEXT) throw new Error(`The text needs at least ${SHORTEST_TEXT} bytes.`);
  return text;
}

function taskOf(model: tf.LayersModel, text: Uint8Array, {batch, context}: Settings): TextTask {
  const loss = (inputs: tf.Tensor, targets: tf.Tensor) =>
    tf.languageModelLoss(targets, model.apply(inputs) as tf.Tensor);
  return {text, batch, sequence: context, loss};
}

/** Resolves to the held-out loss at the end. */
async function train({faults}: OpenBackend, task: TextTask, settings: Settings): Promise<number> {
  const {steps, rate} = settings;
  const optimizer = new ScheduledAdam({peakLearningRate: rate, steps});
  const clock = new Clock(settings);
  let heldOut = Number.NaN;
  for (let step = 0; step < steps; ) {
    const count = Math.min(STEPS_PER_READ, steps - step);
    const loss = await trainSteps(task, optimizer, step, count);
    await faults.check();
    const reached = step + count;
    clock.count(reached);
    requireFinite(loss, reached);
    const passes = (lines: number) => Math.floor((reached * lines) / steps) > Math.floor((step * lines) / steps);
    if (passes(LOSS_LINES)) console.log(`step ${reached}  loss ${loss.toFixed(4)}  ${clock.describe()}`);
    if (passes(HELD_OUT_LINES)) {
      heldOut = await heldOutLoss(task);
      console.log(`step ${reached}  held-out loss ${heldOut.toFixed(4)}`);
    }
    step = reached;
  }
  optimizer.dispose();
  requireFinite(heldOut, steps);
  return heldOut;
}

/** Measures the speed, without the first steps, which compile the GPU's programs. */
class Clock {
  private start: {time: number; step: number} | undefined;
  private step = 0;
  private checked = false;

  constructor(private readonly settings: Settings) {}

  count(step: number): void {
    this.step = step;
    this.start ??= {time: performance.now(), step};
    if (step >= this.start.step + 2 * STEPS_PER_READ) this.checkDuration();
  }

  describe(): string {
    const {steps, batch, context} = this.settings;
    const seconds = this.secondsPerStep();
    if (seconds === 0) return '';
    const left = ((steps - this.step) * seconds) / 60;
    return `${Math.round((batch * context) / seconds)} tokens/s  ${left.toFixed(1)} min left`;
  }

  private secondsPerStep(): number {
    const {time, step} = this.start ?? {time: 0, step: this.step};
    return this.step === step ? 0 : (performance.now() - time) / 1000 / (this.step - step);
  }

  private checkDuration(): void {
    const {steps, minutes = Number.POSITIVE_INFINITY} = this.settings;
    if (this.checked) return;
    this.checked = true;
    const feasible = Math.floor((minutes * 60) / this.secondsPerStep());
    if (feasible < steps)
      throw new Error(`${minutes} minutes are enough for about ${feasible} steps, not for ${steps}.`);
  }
}

function requireFinite(loss: number, step: number): void {
  if (!Number.isFinite(loss)) throw new Error(`The loss is ${loss} after ${step} steps.`);
}

function checkRounding(rounded: number, exact: number): void {
  const cost = Math.abs(rounded / exact - 1);
  console.log(`held-out loss ${exact.toFixed(4)}, with float16 weights ${rounded.toFixed(4)}`);
  if (!(cost < ROUNDING_COST)) throw new Error(`Rounding the weights changed the loss from ${exact} to ${rounded}.`);
}

/** What the model finds likeliest after the prompt. */
async function writeSample(model: tf.LayersModel, context: number): Promise<string> {
  const bytes = [...new TextEncoder().encode(PROMPT)];
  while (bytes.length < Math.min(SAMPLE_LENGTH, context)) {
    const next = tf.tidy(() => {
      // Always a whole context, so that the GPU programs of training serve here too: nothing sees what comes after it.
      const tokens = Int32Array.from({length: context}, (_, i) => bytes[i] ?? 0);
      const logits = model.apply(tf.tensor2d(tokens, [1, context], 'int32')) as tf.Tensor3D;
      return tf.argMax(logits.slice([0, bytes.length - 1, 0], [1, 1, -1]), -1).asScalar();
    });
    bytes.push((await next.data())[0]);
    next.dispose();
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

function fileAddress(name: string): string {
  return new URL(`model/${name}`, location.href).href;
}

async function putFile(name: string, body: string | ArrayBuffer): Promise<void> {
  // As a blob: what drives the browser is told other bodies in full, as a string, which cannot be that long.
  const {ok, status} = await fetch(fileAddress(name), {method: 'PUT', body: new Blob([body])});
  if (!ok) throw new Error(`${name} could not be written: status ${status}.`);
}

const page: PretrainingPage = {describe: describeAdapter, pretrain};
Object.assign(globalThis, {pretraining: page});
