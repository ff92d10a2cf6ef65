/**
 * Attention for backends that have no kernel of their own (wasm, tensorflow, …): composed of tfjs's own ops, in chunks
 * of queries. tfjs does not tape the ops inside a kernel, so the backward pass is written out as well.
 */
import {
  abs,
  getKernel,
  type KernelFunc,
  mul,
  neg,
  onesLike,
  registerKernel,
  reshape,
  slice,
  stack,
  sum,
  type Tensor,
  type Tensor4D,
  tidy,
} from '@tensorflow/tfjs-core';
import {
  FlashAttention,
  type FlashAttentionAttrs,
  type FlashAttentionBackwardInputs,
  type FlashAttentionInputs,
} from '../../src/kernel_names.js';
import {attentionKernels} from '../attention_kernels.js';
import {asTensor} from './as_tensor.js';
import {
  type AttentionProblem,
  attentionProblem,
  exchangeOrder,
  groupHeads,
  matMulEach,
  matrices,
  rowsOf,
  transposeMatrices,
  ungroupHeads,
} from './attention_problem.js';
import {applyDropout, type ChunkSoftmax, chunkSoftmax, offsetsFromDiagonal, scoreGradient} from './chunk_softmax.js';
import {type Contribution, overQueryChunks, type QueryChunk} from './query_chunks.js';

/** Makes attention available on a backend that has no kernel of its own; does nothing where there is one. */
export function registerFallbackKernels(backendName: string): void {
  if (getKernel(FlashAttention, backendName)) return;
  const kernels = attentionKernels(backendName, {
    forward: inTidy(forward),
    backward: inTidy(backward),
    biasBackward: inTidy(biasBackward),
    slopesBackward: inTidy(slopesBackward),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

function forward(inputs: FlashAttentionInputs, attrs: FlashAttentionAttrs): Tensor[] {
  const problem = attentionProblem(inputs, attrs);
  const {sizes} = problem;
  const v = matrices(problem.v);
  const {rows} = overQueryChunks(sizes, (chunk) => {
    const softmax = chunkSoftmax(problem, chunk);
    const dropped = applyDropout(softmax.probabilities, softmax);
    return {rows: [ungroupHeads(matMulEach(groupHeads(dropped, sizes), v), sizes), softmax.lse], terms: []};
  });
  const [output, lse] = rows;
  // The backward kernels here recompute each row's softmax, so nothing hangs on the sum.
  const softmaxStats = stack([lse, onesLike(lse)], 3);
  return [exchangeOrder(output, attrs.order), softmaxStats];
}

function backward(inputs: FlashAttentionBackwardInputs, attrs: FlashAttentionAttrs): Tensor[] {
  const problem = attentionProblem(inputs, attrs);
  const {sizes, scaledQ} = problem;
  const k = matrices(problem.k);
  const {rows, terms} = overScoreGradients(problem, inputs, ({chunk, softmax, dOutput, dScores}) => {
    const dDots = groupHeads(softmax.softcapSlope ? mul(dScores, softmax.softcapSlope) : dScores, sizes);
    const dropped = groupHeads(applyDropout(softmax.probabilities, softmax), sizes);
    const dq = ungroupHeads(mul(matMulEach(dDots, k), attrs.scale), sizes);
    const dk = matMulEach(transposeMatrices(dDots), matrices(groupHeads(rowsOf(scaledQ, chunk), sizes)));
    const dv = matMulEach(transposeMatrices(dropped), matrices(groupHeads(dOutput, sizes)));
    return {rows: [dq], terms: [dk, dv]};
  });
  return [...rows, ...terms].map((gradient) => exchangeOrder(gradient, attrs.order));
}

function biasBackward(inputs: FlashAttentionBackwardInputs, attrs: FlashAttentionAttrs): Tensor {
  const problem = attentionProblem(inputs, attrs);
  const {shape} = problem.bias as Tensor4D;
  const broadcastAxes = [0, 1, 2, 3].filter((axis) => shape[axis] === 1);
  const {rows, terms} = overScoreGradients(problem, inputs, ({dScores}) => {
    const dBias = sum(dScores, broadcastAxes, true);
    return shape[2] === 1 ? {rows: [], terms: [dBias]} : {rows: [dBias], terms: []};
  });
  return [...rows, ...terms][0];
}

function slopesBackward(inputs: FlashAttentionBackwardInputs, attrs: FlashAttentionAttrs): Tensor {
  const problem = attentionProblem(inputs, attrs);
  const [batch, heads] = (problem.alibiSlopes as Tensor4D).shape;
  const {terms} = overScoreGradients(problem, inputs, ({chunk, dScores}) => {
    const distances = abs(offsetsFromDiagonal(problem, chunk));
    return {rows: [], terms: [neg(sum(mul(dScores, distances), batch === 1 ? [0, 2, 3] : [2, 3]))]};
  });
  return reshape(terms[0], [batch, heads]);
}

/** What the gradients of one chunk are made of. */
interface ChunkGradient {
  chunk: QueryChunk;
  softmax: ChunkSoftmax;
  /** [B, H, rows, Dv] */
  dOutput: Tensor4D;
  /** [B, H, rows, Sk], gradient of the scores as the softmax gets them. */
  dScores: Tensor4D;
}

function overScoreGradients(
  problem: AttentionProblem,
  inputs: FlashAttentionBackwardInputs,
  contribute: (gradient: ChunkGradient) => Contribution,
): Contribution {
  const {sizes, v} = problem;
  const vTransposed = matrices(transposeMatrices(v));
  const allDOutput = exchangeOrder(inputs.dOutput, problem.attrs.order);
  const {dSoftmaxStats} = inputs;
  const allDLse = dSoftmaxStats && slice(asTensor(dSoftmaxStats), [0, 0, 0, 0], [-1, -1, -1, 1]);
  return overQueryChunks(sizes, (chunk) => {
    const softmax = chunkSoftmax(problem, chunk);
    const dOutput = rowsOf(allDOutput, chunk);
    const dDropped = ungroupHeads(matMulEach(groupHeads(dOutput, sizes), vTransposed), sizes);
    const dScores = scoreGradient(softmax, dDropped, allDLse && rowsOf(allDLse, chunk));
    return contribute({chunk, softmax, dOutput, dScores});
  });
}

type FallbackRun = (inputs: FlashAttentionBackwardInputs, attrs: FlashAttentionAttrs) => Tensor | Tensor[];

function inTidy(run: FallbackRun): KernelFunc {
  return ({inputs, attrs}) =>
    tidy(() => run(inputs as FlashAttentionBackwardInputs, attrs as unknown as FlashAttentionAttrs));
}
