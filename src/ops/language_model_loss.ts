/** The op `languageModelLoss`. */
import {cast, engine, op, type Scalar, type Tensor, type Tensor1D, type Tensor2D, util} from '@tensorflow/tfjs-core';
import {registerLanguageModelLossFallback} from '../../kernels/fallback/language_model_loss.js';
import {runLanguageModelLoss} from '../gradients/language_model_loss_gradient.js';
import {reshapeIfNeeded} from './reshape_if_needed.js';

function languageModelLoss_(targets: Tensor, logits: Tensor): Scalar {
  if (logits.rank < 2 || !util.arraysEqual(targets.shape, logits.shape.slice(0, -1))) {
    throw new Error(
      `languageModelLoss: targets must have the shape of logits without the last axis, ` +
        `got [${targets.shape}] for logits [${logits.shape}].`,
    );
  }
  const vocabSize = logits.shape[logits.rank - 1];
  registerLanguageModelLossFallback(engine().backendName);
  const rows = reshapeIfNeeded(logits, [targets.size, vocabSize]) as Tensor2D;
  return runLanguageModelLoss(rows, reshapeIfNeeded(cast(targets, 'int32'), [targets.size]) as Tensor1D);
}

/**
 * Mean cross-entropy of a language model's predictions, in nats; its exponential is the perplexity. It serves as a loss of
 * `model.compile`. Its gradient, (softmax − one-hot) / places, is one kernel, which computes it from the logits and two
 * numbers for each place; nothing else of the size of the logits is made on the CPU, WebGPU and WebGL. Stable for logits of
 * any size. There are no second-order gradients.
 *
 * A target outside of [0, V) is not an error: the loss there is that of the most probable token, and its gradient has no
 * one-hot.
 *
 * ```js
 * const logits = tf.zeros([2, 8, 50]);
 * const loss = tf.languageModelLoss(tf.zeros([2, 8], 'int32'), logits);
 * console.log((await loss.data())[0].toFixed(4), Math.log(50).toFixed(4)); // [3.9120] [3.9120]
 * ```
 *
 * @param targets [.., S] int32, in [0, V): at each place the token that follows.
 * @param logits [.., S, V] float32; gradients flow into them only.
 * @returns the mean over all places.
 * @throws Error that shows the shapes, if they do not fit.
 */
export const languageModelLoss = /* @__PURE__ */ op({languageModelLoss_}) as typeof languageModelLoss_;
