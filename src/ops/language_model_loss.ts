/** The op `languageModelLoss`. */
import {
  cast,
  customGrad,
  div,
  exp,
  type GradSaveFunc,
  log,
  max,
  mean,
  mul,
  oneHot,
  op,
  reshape,
  type Scalar,
  softmax,
  sub,
  sum,
  type Tensor,
  type Tensor1D,
  util,
} from '@tensorflow/tfjs-core';

function languageModelLoss_(targets: Tensor, logits: Tensor): Scalar {
  if (logits.rank < 2 || !util.arraysEqual(targets.shape, logits.shape.slice(0, -1))) {
    throw new Error(
      `languageModelLoss: targets must have the shape of logits without the last axis, ` +
        `got [${targets.shape}] for logits [${logits.shape}].`,
    );
  }
  const vocabSize = logits.shape[logits.rank - 1];
  const rows = reshape(logits, [targets.size, vocabSize]);
  return crossEntropy(reshape(cast(targets, 'int32'), [targets.size]) as Tensor1D, rows) as Scalar;
}

/** Of logits [rows, V]; the gradient is (softmax − one-hot) / rows. */
function crossEntropy(tokens: Tensor1D, logits: Tensor): Tensor {
  const [rows, vocabSize] = logits.shape;
  const hot = (t: Tensor) => oneHot(t as Tensor1D, vocabSize, 1, 0, 'float32');
  const ofLogits = customGrad((...inputs) => {
    const [x, save] = inputs as [Tensor, GradSaveFunc];
    save([x, tokens]);
    const shifted = sub(x, max(x, -1, true));
    const ofTargets = sum(mul(shifted, hot(tokens)), -1);
    const value = mean(sub(log(sum(exp(shifted), -1)), ofTargets));
    const gradFunc = (dy: Tensor, [saved, targets]: Tensor[]) => mul(sub(softmax(saved), hot(targets)), div(dy, rows));
    return {value, gradFunc};
  });
  return ofLogits(logits);
}

/**
 * Mean cross-entropy of a language model's predictions, in nats; its exponential is the perplexity. It serves as a loss of
 * `model.compile`, and its gradient, softmax − one-hot, takes a few kernels. Stable for logits of any size.
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
