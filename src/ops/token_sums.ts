/** Sums by token: the gradient of looking up rows of a table. */
import {engine, type NamedAttrMap, type Tensor1D, type Tensor2D} from '@tensorflow/tfjs-core';
import {registerTokenSumsFallback} from '../../kernels/fallback/token_sums.js';
import {TokenSums, type TokenSumsAttrs} from '../kernel_names.js';

/** For each of the tokens from 0 to V − 1 the sum of the rows of x [rows, W] that are its: [V, W]. Not differentiable. */
export function tokenSums(x: Tensor2D, tokens: Tensor1D, vocabSize: number): Tensor2D {
  registerTokenSumsFallback(engine().backendName);
  const attrs: TokenSumsAttrs = {vocabSize};
  return engine().runKernel(TokenSums, {x, tokens}, attrs as unknown as NamedAttrMap) as Tensor2D;
}
