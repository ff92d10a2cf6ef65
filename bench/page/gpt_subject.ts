/** Training of a gpt as a subject: one step, forward, backward and Adam, always on the same batch. */
import * as tf from '@tensorflow/tfjs-core';
import {fusedAdam, languageModelLoss} from '../../src/index.js';
import {gpt} from '../../src/layers/index.js';
import {type Contender, type GptProblem, MONARCH_BLOCKS} from '../cases.js';
import {attentionSubject} from './attention_subject.js';
import type {OpenBackend} from './backend.js';
import {randomIntegers} from './random_values.js';
import type {Call, Results, Subject} from './subject.js';
import {finished} from './timing.js';

const VOCABULARY = 256;
const DENSITY = 0.25;
const LEARNING_RATE = 3e-5;
/** After so many steps the loss must have fallen. */
const CHECKED_STEPS = 10;

type GptCase = GptProblem & {contender: Contender};

/** The weights and Adam's moments are its inputs, so that the memory of a step is what comes on top of them. */
export async function gptSubject(backend: OpenBackend, problem: GptCase): Promise<Subject> {
  const model = modelOf(problem);
  const weights = model.trainableWeights.map((weight) => weight.read() as tf.Variable);
  for (const weight of weights) assignOnGpu(backend, weight);
  const optimizer = fusedAdam(LEARNING_RATE);
  await giveMoments(backend, optimizer, weights);
  const {inputs, targets} = uploadBatch(backend, problem);
  const call: Call = () => {
    const loss = () => languageModelLoss(targets, model.apply(inputs, {training: true}) as tf.Tensor);
    return {loss: optimizer.minimize(loss, true, weights) as tf.Scalar};
  };
  return {
    inputs: {inputs, targets, ...Object.fromEntries(weights.map((weight) => [weight.name, weight]))},
    prepare: () => call,
    check: (results) => checkLosses(results, call),
  };
}

/** Peak bytes of the contender's attention alone, forward and backward, at the shape that it has in the model. */
export async function peakOfAttention(backend: OpenBackend, problem: GptCase): Promise<number> {
  const {batch, heads, width, context, pass, contender} = problem;
  const subject = attentionSubject(backend, {
    kind: 'attention',
    contender: contender === 'standard' ? 'unfused' : contender,
    backend: problem.backend,
    pass,
    causal: true,
    batch,
    heads,
    sequence: context,
    depth: width / heads,
    timed: false,
  });
  await finished(subject.inputs);
  backend.bytes.startCount();
  const results = subject.prepare()();
  await finished(results);
  const peak = backend.bytes.peakBytes();
  await backend.faults.check();
  tf.dispose([subject.inputs, results]);
  return peak;
}

function modelOf({contender, mlp, layers, heads, width, context, blockSize}: GptCase) {
  const kind = contender === 'dense' ? 'dense' : mlp;
  return gpt({
    layers,
    heads,
    width,
    contextLength: context,
    vocabSize: VOCABULARY,
    position: 'rotary',
    attention: contender === 'standard' ? 'standard' : 'flash',
    mlp: kind,
    mlpOptions: {dense: {}, pixelfly: {blockSize, density: DENSITY}, monarch: {blocks: MONARCH_BLOCKS}}[kind],
    seed: 1,
  });
}

function assignOnGpu(backend: OpenBackend, weight: tf.Variable): void {
  const value = backend.moveToGpu(weight.clone());
  weight.assign(value);
  value.dispose();
}

/** Moments of 0 before the first step, which would make them itself and count them as its memory. */
async function giveMoments(backend: OpenBackend, optimizer: tf.AdamOptimizer, weights: tf.Variable[]): Promise<void> {
  const zeros = () => weights.map(({name, shape}) => ({name, tensor: backend.moveToGpu(tf.zeros(shape))}));
  const moments = [...zeros(), ...zeros()];
  const iterations = {name: 'iter', tensor: tf.scalar(0, 'int32')};
  await optimizer.setWeights([iterations, ...moments]);
  tf.dispose([iterations, moments]);
}

/** Tokens of which the first are the most frequent, as in text, so that there is something to learn. */
function uploadBatch(backend: OpenBackend, {batch, context}: GptProblem): {inputs: tf.Tensor2D; targets: tf.Tensor2D} {
  const tokens = randomIntegers(1, batch * (context + 1), VOCABULARY).map((i) => Math.floor(i ** 2 / VOCABULARY));
  const upload = (offset: number) => {
    const rows = Array.from({length: batch}, (_, b) => b * (context + 1) + offset);
    const values = Int32Array.from(rows.flatMap((start) => tokens.slice(start, start + context)));
    return backend.moveToGpu(tf.tensor2d(values, [batch, context], 'int32'));
  };
  return {inputs: upload(0), targets: upload(1)};
}

async function checkLosses({loss}: Results, call: Call): Promise<Record<string, number>> {
  const [first] = await loss.data();
  for (let step = 2; step < CHECKED_STEPS; step++) tf.dispose(call());
  const last = call();
  const [fallen] = await last.loss.data();
  tf.dispose(last);
  if (!(fallen < first)) {
    throw new Error(`wrong answer: after ${CHECKED_STEPS} steps the loss is ${fallen}, after the first ${first}`);
  }
  return {firstLoss: first, lastLoss: fallen};
}
