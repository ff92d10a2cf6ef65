/** Sums by token for backends that have no kernel of their own: a product with one-hot tokens, as large as logits. */
import {getKernel, matMul, type Rank, registerKernel, type Tensor, tidy} from '@tensorflow/tfjs-core';
import {TokenSums} from '../../src/kernel_names.js';
import {tokenSumsKernel} from '../token_sums_kernels.js';
import {asTensor} from './as_tensor.js';
import {oneHotRows} from './one_hot.js';

/** Makes sums by token available on a backend that has no kernel of its own. */
export function registerTokenSumsFallback(backendName: string): void {
  if (getKernel(TokenSums, backendName)) return;
  registerKernel(
    tokenSumsKernel(backendName, ({x, tokens}, {vocabSize}) =>
      tidy((): Tensor => matMul(oneHotRows(tokens, vocabSize), asTensor<Rank.R2>(x), true)),
    ),
  );
}
