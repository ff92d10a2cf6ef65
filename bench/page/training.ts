/**
 * The training comparison: the same small causal transformer with tf.layers.dense and with pixelflyDense in all of its
 * projections, on the same batches of the same bytes, for as many steps. The text is the source of this very page: a
 * megabyte of minified JavaScript, which is there wherever the page runs.
 */
import * as tf from '@tensorflow/tfjs-core';
import {initializers, layers} from '@tensorflow/tfjs-layers';
import {flashAttention} from '../../src/index.js';
import {fusedLayerNorm, pixelflyDense} from '../../src/layers/index.js';
import type {Contender, TrainingProblem} from '../cases.js';
import type {Measurement} from '../measurement.js';
import type {OpenBackend} from './backend.js';
import {randomValues} from './random_values.js';
import {ScheduledAdam} from './scheduled_adam.js';
import {heldOutLoss, type TextTask, trainSteps} from './text_training.js';

const BLOCKS = 2;
const HEAD_DEPTH = 64;
/** Bytes of minified JavaScript are ASCII but for a few, which become 0. */
const VOCABULARY = 128;
/** Of the parameters of a dense kernel, in the sparse model. */
const DENSITY = 0.25;
/** Steps between two looks at the loss, which wait for the GPU. */
const STEPS_PER_READ = 10;
/** So often the held-out loss is looked at, at equal distances; the last time is the end. */
const HELD_OUT_LOOKS = 4;

type TrainingRun = TrainingProblem & {contender: Contender};

export async function train(backend: OpenBackend, problem: TrainingRun): Promise<Measurement> {
  const {faults, bytes} = backend;
  const text = await readText();
  bytes.startCount();
  const model = new Transformer(problem);
  const {batch, sequence} = problem;
  const task: TextTask = {text, batch, sequence, loss: (inputs, targets) => model.loss(inputs, targets)};
  const optimizer = new ScheduledAdam({peakLearningRate: peakLearningRate(problem), steps: problem.steps});

  const losses: number[] = [];
  const heldOut: number[] = [];
  const stepTimes: number[] = [];
  for (let step = 0; step < problem.steps; step += STEPS_PER_READ) {
    const start = performance.now();
    losses.push(await trainSteps(task, optimizer, step, STEPS_PER_READ));
    stepTimes.push((performance.now() - start) / STEPS_PER_READ);
    const steps = step + STEPS_PER_READ;
    const looks = (at: number) => Math.floor((at * HELD_OUT_LOOKS) / problem.steps);
    if (looks(steps) > looks(step)) heldOut.push(await heldOutLoss(task));
  }
  const memory = {peakBytes: bytes.peakBytes(), backendBytes: bytes.backendBytes()};
  await faults.check();
  if (!(heldOut[heldOut.length - 1] < Math.log(VOCABULARY))) {
    throw new Error(`wrong answer: nothing was learnt, held-out losses ${heldOut}`);
  }
  // The first steps compile the programs.
  const milliseconds = stepTimes.slice(2).sort((a, b) => a - b)[Math.floor((stepTimes.length - 2) / 2)];
  return {milliseconds, ...memory, errors: {}, training: {losses, heldOut, parameters: model.countParameters()}};
}

async function readText(): Promise<Uint8Array> {
  const response = await fetch('page.js');
  return new Uint8Array(await response.arrayBuffer()).map((byte) => (byte < VOCABULARY ? byte : 0));
}

/**
 * The best of the rates tried for either kind of layer, which differ: an output of a sparse layer moves less with each of
 * its fewer weights. Dense layers want less the wider they are.
 */
function peakLearningRate({contender, width}: TrainingRun): number {
  return contender === 'sparse' ? 1.2e-3 : 0.4 / width;
}

/**
 * Pre-norm blocks of causal attention and a feed-forward net of four times the width, as in GPT-2. Places are told by
 * ALiBi: with embedded ones a model spends its first hundreds of steps on learning to look at the byte before.
 */
class Transformer {
  private readonly embedding: tf.Variable;
  private readonly slopes: tf.Tensor1D;
  private readonly blocks;
  private readonly norm = fusedLayerNorm();
  private readonly head = layers.dense({
    units: VOCABULARY,
    kernelInitializer: initializers.glorotUniform({seed: 0}),
  });
  private seed = 1;

  constructor(private readonly problem: TrainingRun) {
    const {width} = problem;
    const embedding = randomValues(this.seed++, VOCABULARY * width).map((value) => 0.02 * value);
    this.embedding = tf.variable(tf.tensor2d(embedding, [VOCABULARY, width]));
    const heads = width / HEAD_DEPTH;
    this.slopes = tf.tensor1d(Array.from({length: heads}, (_, head) => 2 ** ((-8 * (head + 1)) / heads)));
    this.blocks = Array.from({length: BLOCKS}, () => ({
      attentionNorm: fusedLayerNorm(),
      queriesKeysValues: this.projection(3 * width),
      attentionOutput: this.projection(width),
      feedForwardNorm: fusedLayerNorm(),
      widen: this.projection(4 * width, 'relu'),
      narrow: this.projection(width),
    }));
  }

  /** Sparse kernels start with x·W of the variance of x, as dense ones do; by default they have a third of it. */
  private projection(units: number, activation?: 'relu') {
    const {contender, blockSize} = this.problem;
    const common = {units, ...(activation && {activation})};
    const seed = this.seed++;
    return contender === 'sparse'
      ? pixelflyDense({
          ...common,
          blockSize,
          density: DENSITY,
          kernelInitializer: initializers.leCunUniform({seed}),
          seed,
        })
      : layers.dense({...common, kernelInitializer: initializers.glorotUniform({seed})});
  }

  /** Mean cross-entropy of the bytes that follow, in nats. */
  loss(inputs: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
    const {batch: count, sequence, width} = this.problem;
    const oneHot = tf.reshape(tf.oneHot(inputs, VOCABULARY), [count * sequence, VOCABULARY]);
    const embedded = tf.reshape(tf.matMul(tf.cast(oneHot, 'float32'), this.embedding as tf.Tensor2D), [
      count,
      sequence,
      width,
    ]);
    let x: tf.Tensor = embedded;
    for (const block of this.blocks) {
      const attended = this.attend(block.queriesKeysValues.apply(block.attentionNorm.apply(x)) as tf.Tensor);
      x = tf.add(x, block.attentionOutput.apply(attended) as tf.Tensor);
      const widened = block.widen.apply(block.feedForwardNorm.apply(x));
      x = tf.add(x, block.narrow.apply(widened) as tf.Tensor);
    }
    const logits = tf.reshape(this.head.apply(this.norm.apply(x)) as tf.Tensor, [count * sequence, VOCABULARY]);
    const expected = tf.oneHot(tf.reshape(targets, [count * sequence]), VOCABULARY);
    return tf.losses.softmaxCrossEntropy(expected, logits);
  }

  private attend(queriesKeysValues: tf.Tensor): tf.Tensor {
    const {batch: count, sequence, width} = this.problem;
    const [q, k, v] = tf
      .split(queriesKeysValues, 3, 2)
      .map((part) => tf.reshape(part, [count, sequence, width / HEAD_DEPTH, HEAD_DEPTH]) as tf.Tensor4D);
    return tf.reshape(flashAttention(q, k, v, {causal: true, alibiSlopes: this.slopes, order: 'BSHD'}), [
      count,
      sequence,
      width,
    ]);
  }

  countParameters(): number {
    const ofLayers = [this.norm, this.head, ...this.blocks.flatMap((block) => Object.values(block))];
    return ofLayers.reduce((sum, layer) => sum + layer.countParams(), this.embedding.size);
  }
}
