/** Attention as a subject: forward, or the gradients with respect to q, k and v. */
import * as tf from '@tensorflow/tfjs-core';
import type {AttentionProblem, Contender} from '../cases.js';
import {type Answers, checkForward, checkGradients, checkKeyGradients, sparseWeights} from './answer_check.js';
import type {OpenBackend} from './backend.js';
import {type Attend, type AttentionResults, attentionOf, forwardCall, gradientCall} from './contenders.js';
import {randomInputs, upload, uploadInputs} from './inputs.js';
import type {Subject} from './subject.js';

export function attentionSubject(backend: OpenBackend, given: AttentionProblem & {contender: Contender}): Subject {
  const problem = given.contender === 'dense' ? {...given, layoutBlock: undefined} : given;
  const values = randomInputs(problem);
  const inputs = uploadInputs(backend, problem, values);
  const isForward = problem.pass === 'forward';
  let attend: Attend;

  const keyGradientErrors = async () => {
    const weights = upload(backend, problem, sparseWeights(problem, values.weights));
    const results = gradientCall(attend, inputs, weights)();
    const errors = await checkKeyGradients(problem, values, answersOf(results, problem));
    tf.dispose([weights, results]);
    return errors;
  };

  return {
    inputs,
    prepare: () => {
      attend = attentionOf(problem);
      return isForward ? forwardCall(attend, inputs) : gradientCall(attend, inputs, inputs.weights);
    },
    check: async (results) => {
      const answers = answersOf(results as AttentionResults, problem);
      if (isForward) return checkForward(problem, values, answers);
      return {...(await checkGradients(problem, values, answers)), ...(await keyGradientErrors())};
    },
  };
}

function answersOf(results: AttentionResults, {heads}: AttentionProblem): Answers {
  const readers = Object.entries(results).map(([name, tensor]) => {
    const read = async (place: number) => {
      const head = tf.slice(tensor, [Math.floor(place / heads), place % heads, 0, 0], [1, 1, -1, -1]);
      const values = await head.data<'float32'>();
      head.dispose();
      return values;
    };
    return [name, read] as const;
  });
  return Object.fromEntries(readers);
}
