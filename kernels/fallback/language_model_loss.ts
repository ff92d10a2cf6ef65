/** A language model's loss for backends that have no kernel of their own: tfjs's ops, with one-hot targets. */
import {
  concat,
  div,
  exp,
  getKernel,
  log,
  max,
  mean,
  mul,
  registerKernel,
  split,
  sub,
  sum,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core';
import {LanguageModelLoss, type LanguageModelLossInputs} from '../../src/kernel_names.js';
import {languageModelLossKernels} from '../language_model_loss_kernels.js';
import {asTensor} from './as_tensor.js';
import {oneHotRows} from './one_hot.js';

/** Makes the loss available on a backend that has no kernel of its own. */
export function registerLanguageModelLossFallback(backendName: string): void {
  if (getKernel(LanguageModelLoss, backendName)) return;
  const kernels = languageModelLossKernels(backendName, {
    forward: (inputs) => tidy(() => forward(inputs)),
    backward: ({softmaxStats, dLoss, ...inputs}) =>
      tidy(() => {
        const logits = asTensor(inputs.logits);
        const [maximum, sums] = split(asTensor(softmaxStats), 2, -1);
        const probabilities = div(exp(sub(logits, maximum)), sums);
        return mul(
          sub(probabilities, oneHotRows(inputs.targets, inputs.logits.shape[1])),
          div(asTensor(dLoss), logits.shape[0]),
        );
      }),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

function forward(inputs: LanguageModelLossInputs): Tensor[] {
  const logits: Tensor = asTensor(inputs.logits);
  const maximum = max(logits, -1, true);
  const shifted = sub(logits, maximum);
  const sums = sum(exp(shifted), -1, true);
  const ofTargets = sum(mul(shifted, oneHotRows(inputs.targets, inputs.logits.shape[1])), -1, true);
  return [mean(sub(log(sums), ofTargets)), concat([maximum, sums], -1)];
}
