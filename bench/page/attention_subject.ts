/** Attention as a subject: forward, or the gradients with respect to q, k and v. */
import * as tf from '@tensorflow/tfjs-core';
import type {AttentionProblem, Contender} from '../cases.js';
import {checkForward, checkGradients, checkKeyGradients, sparseWeights} from './answer_check.js';
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
    const errors = await checkKeyGradients(problem, values, results);
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
      const ofAttention = results as AttentionResults;
      if (isForward) return checkForward(problem, values, ofAttention);
      return {...(await checkGradients(problem, values, ofAttention)), ...(await keyGradientErrors())};
    },
  };
}
