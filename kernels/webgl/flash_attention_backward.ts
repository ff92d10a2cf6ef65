/**
 * WebGL kernels of attention's backward pass (FlashAttention, algorithm 4), a chunk of keys at a time: probabilities are
 * recomputed from softmaxStats, then their gradient, then the sums that make dQ, dK and dV, or the gradient of one of the biases.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {
  type KernelFunc,
  pad,
  reshape,
  slice,
  sum,
  type Tensor,
  type Tensor4D,
  type TensorInfo,
  tidy,
} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionBackwardInputs} from '../../src/kernel_names.js';
import {AttentionRun, inCallOrder} from './attention_run.js';
import {columnSumsProgram, sharedBiasProgram} from './bias_programs.js';
import {type KeyChunk, keyChunks, WHOLE} from './key_chunks.js';
import type {PackedProgram, Textures} from './packed_program.js';
import {type Planes, type PlanesProgram, planesNamed} from './register_tiles_glsl.js';
import {keyGradientProgram, queryGradientProgram} from './result_programs.js';
import {deltaProgram, distanceSumsProgram, slopeSharesProgram} from './row_programs.js';
import {type GradientOf, probabilitiesProgram, scoreGradientProgram} from './score_programs.js';
import {sumOverKeysProgram, sumOverQueriesProgram} from './sum_programs.js';

type KernelCall = Parameters<KernelFunc>[0];

/** The textures of one chunk, and its planes; freed when the chunk is done. */
interface ScoreGradient {
  chunk: KeyChunk;
  textures: Textures;
  probabilities: Planes;
  dScores: Planes;
}

/** Runs `useChunk` for every chunk, and returns what `results` then gives, freeing everything else. */
function overScoreGradients(
  call: KernelCall,
  gradientOf: GradientOf,
  useChunk: (run: AttentionRun, gradient: ScoreGradient) => void,
  results: (run: AttentionRun) => TensorInfo[],
): TensorInfo[] {
  const inputs = call.inputs as FlashAttentionBackwardInputs;
  const run = new AttentionRun(call.backend as MathBackendWebGL, inputs, call.attrs as unknown as FlashAttentionAttrs);
  run.assertTexturesFit();
  const {variant, options, sizes} = run;
  return run.finish(() => {
    const {q, k, v, output, softmaxStats, dOutput, dSoftmaxStats} = inputs;
    const rows = {o: output, dO: dOutput, dSoftmaxStats};
    const delta = run.make(deltaProgram(run.attrs.order, dSoftmaxStats !== undefined), run.rowShape, rows, WHOLE);
    const matrices = {...run.operands({q, k, dO: dOutput}), ...run.columns({k, v})};
    for (const chunk of keyChunks(inputs, run.attrs, sizes, variant.tile)) {
      const indices = run.indexTextures(chunk);
      const textures = {...options, ...indices, ...matrices, softmaxStats, delta};
      const shape = run.scoreShape(chunk);
      const probabilities = run.makePlanes(probabilitiesProgram(variant), shape, textures, chunk);
      const program = scoreGradientProgram(variant, gradientOf);
      const withProbabilities = {...textures, ...planesNamed('probabilities', probabilities)};
      const dScores = run.makePlanes(program, shape, withProbabilities, chunk);
      useChunk(run, {chunk, textures, probabilities, dScores});
      run.release(probabilities, dScores);
    }
    return results(run);
  });
}

export const flashAttentionBackward: KernelFunc = (call) => {
  let dq: TensorInfo | undefined;
  let dk: TensorInfo | undefined;
  let dv: TensorInfo | undefined;
  const useChunk = (run: AttentionRun, {chunk, textures, probabilities, dScores}: ScoreGradient) => {
    const {variant, sizes} = run;
    const hasPrevious = dq !== undefined;
    const sumsOf = (program: PlanesProgram, weights: Planes, shape: number[]) =>
      run.makePlanes(program, shape, {...textures, ...planesNamed('weights', weights)}, chunk);

    const ofQueries = run.resultShape('queries', 'depth');
    const dqSums = sumsOf(sumOverKeysProgram(variant, 'k'), dScores, ofQueries);
    dq = run.addTo(dq, dqSums, queryGradientProgram(variant, hasPrevious), ofQueries, {}, chunk);

    const ofKeys = (
      previous: TensorInfo | undefined,
      matrix: 'q' | 'dO',
      weights: Planes,
      columns: 'depth' | 'valueDepth',
    ) => {
      const {batch, keyHeads} = sizes;
      const ofChunk = [batch, keyHeads, chunk.count, sizes[columns]];
      const sums = sumsOf(sumOverQueriesProgram(variant, matrix), weights, ofChunk);
      const program = keyGradientProgram(variant, columns, hasPrevious);
      return run.addTo(previous, sums, program, run.resultShape('keys', columns), {}, chunk);
    };
    dk = ofKeys(dk, 'q', dScores, 'depth');
    dv = ofKeys(dv, 'dO', probabilities, 'valueDepth');
  };
  return overScoreGradients(call, 'dots', useChunk, (run) =>
    [dq, dk, dv].map((gradient) => inCallOrder(run, gradient as TensorInfo)),
  );
};

export const flashAttentionBiasBackward: KernelFunc = (call) => {
  const {shape} = call.inputs.bias as TensorInfo;
  return biasGradient(call, shape);
};

export const flashAttentionSlopesBackward: KernelFunc = (call) => {
  const {alibiSlopes, dSoftmaxStats} = call.inputs as FlashAttentionBackwardInputs;
  const {shape} = alibiSlopes as TensorInfo;
  let dScoreSums: TensorInfo | undefined;
  let probabilitySums: TensorInfo | undefined;
  const useChunk = (run: AttentionRun, {chunk, textures, probabilities, dScores}: ScoreGradient) => {
    const addSums = (weightsAre: 'dScores' | 'probabilities', weights: Planes, previous: TensorInfo | undefined) => {
      const program = distanceSumsProgram(run.variant, weightsAre, previous !== undefined);
      const total = run.make(program, run.rowShape, {...textures, ...planesNamed('weights', weights), previous}, chunk);
      run.release(previous);
      return total;
    };
    dScoreSums = addSums('dScores', dScores, dScoreSums);
    probabilitySums = addSums('probabilities', probabilities, probabilitySums);
  };
  const [total] = overScoreGradients(call, 'scores', useChunk, (run) => {
    const program = slopeSharesProgram(dSoftmaxStats !== undefined);
    const shares = run.make(program, run.rowShape, {dScoreSums, probabilitySums, dSoftmaxStats}, WHOLE);
    return [
      tidy(() => {
        const perHead = sumRows(slice(run.handOver(shares) as Tensor4D, [0, 0, 0, 0], [-1, -1, -1, 1]));
        return reshape(shape[0] === 1 ? sum(perHead, 0) : perHead, shape);
      }),
    ];
  });
  return total;
};

/**
 * [B, H, Sq, 1] → [B, H], four rows at a time, and of their sums four at a time: tfjs's own sum adds up a hundred in a
 * row, and rows of either sign leave little of the total.
 */
function sumRows(shares: Tensor4D): Tensor {
  const [batch, heads, rows] = shares.shape;
  if (rows === 1) return reshape(shares, [batch, heads]);
  const groups = Math.ceil(rows / 4);
  const padded = pad(shares, [
    [0, 0],
    [0, 0],
    [0, 4 * groups - rows],
    [0, 0],
  ]);
  return sumRows(sum<Tensor4D>(reshape(padded, [batch, heads, groups, 4]), 3, true));
}

/** dS of all chunks, summed along keys or queries where the bias has size 1, then by tfjs along the batch and heads. */
function biasGradient(call: KernelCall, biasShape: number[]): TensorInfo {
  const summed = [0, 1, 2, 3].filter((axis) => biasShape[axis] === 1);
  const sumsKeys = summed.includes(3);
  const sumsQueries = summed.includes(2);
  let total: TensorInfo | undefined;
  const useChunk = (run: AttentionRun, {chunk, textures, dScores}: ScoreGradient) => {
    const previous = total;
    const {batch, heads, keys} = run.sizes;
    const [program, shape]: [PackedProgram, number[]] = sumsKeys
      ? [distanceSumsProgram(run.variant, 'dScores', previous !== undefined), run.rowShape]
      : sumsQueries
        ? [columnSumsProgram(run.variant, previous !== undefined), [batch, heads, 1, keys]]
        : [sharedBiasProgram(run.variant, previous !== undefined), biasShape];
    const given = {...textures, ...planesNamed('weights', dScores), ...planesNamed('dScores', dScores), previous};
    total = run.make(program, shape, given, chunk);
    run.release(previous);
  };
  const [gradient] = overScoreGradients(call, 'scores', useChunk, (run) => {
    if (!sumsKeys && !sumsQueries) return [total as TensorInfo];
    return [
      tidy(() => {
        const sums = run.handOver(total as TensorInfo);
        // The plain sums of rows are the second numbers.
        const plain = sumsKeys ? slice(sums, [0, 0, 0, 1], [-1, -1, -1, 1]) : sums;
        return reshape(sum(plain, summed), biasShape);
      }),
    ];
  });
  return gradient;
}
