/** A language model's loss for backends that have no kernel of their own: tfjs's ops, with one-hot targets. */
import {
  cast,
  concat,
  div,
  equal,
  exp,
  getKernel,
  log,
  max,
  mean,
  mul,
  range,
  registerKernel,
  reshape,
  split,
  sub,
  sum,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core';
import {LanguageModelLoss, type LanguageModelLossInputs} from '../../src/kernel_names.js';
import {languageModelLossKernels} from '../language_model_loss_kernels.js';
import {asTensor} from './as_tensor.js';

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
        return mul(sub(probabilities, oneHotTargets(inputs)), div(asTensor(dLoss), logits.shape[0]));
      }),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

function forward(inputs: LanguageModelLossInputs): Tensor[] {
  const logits: Tensor = asTensor(inputs.logits);
  const maximum = max(logits, -1, true);
  const shifted = sub(logits, maximum);
  const sums = sum(exp(shifted), -1, true);
  const ofTargets = sum(mul(shifted, oneHotTargets(inputs)), -1, true);
  return [mean(sub(log(sums), ofTargets)), concat([maximum, sums], -1)];
}

/** Not by tfjs's oneHot, which has no single column, and which on wasm makes integers whatever it is told. */
function oneHotTargets({logits, targets}: LanguageModelLossInputs): Tensor {
  const [rows, columns] = logits.shape;
  const isTarget = equal(reshape(asTensor(targets), [rows, 1]), reshape(range(0, columns, 1, 'int32'), [1, columns]));
  return cast(isTarget, 'float32');
}
