/** WebGL kernel of attention's forward pass, and the list of all attention kernels of this backend. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {KernelFunc, TensorInfo} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {attentionKernels} from '../attention_kernels.js';
import {AttentionRun, inCallOrder} from './attention_run.js';
import {
  flashAttentionBackward,
  flashAttentionBiasBackward,
  flashAttentionSlopesBackward,
} from './flash_attention_backward.js';
import {keyChunks, WHOLE} from './key_chunks.js';
import {planesNamed} from './register_tiles_glsl.js';
import {runningStatsProgram, softmaxStatsProgram} from './row_programs.js';
import {scoresProgram, weightsProgram} from './score_programs.js';
import {sumOverKeysProgram} from './sum_programs.js';

const flashAttention: KernelFunc = (call) => {
  const inputs = call.inputs as FlashAttentionInputs;
  const attrs = call.attrs as unknown as FlashAttentionAttrs;
  const run = new AttentionRun(call.backend as MathBackendWebGL, inputs, attrs);
  run.assertTexturesFit();
  return run.finish(() => {
    const {output, stats} = overChunks(run);
    const softmaxStats = run.make(softmaxStatsProgram(), run.rowShape, {stats}, WHOLE);
    return [inCallOrder(run, output), softmaxStats];
  });
};

/** The online softmax (FlashAttention-2, algorithm 1), a chunk of keys at a time. */
function overChunks(run: AttentionRun): {output: TensorInfo; stats: TensorInfo} {
  const {variant, options, inputs} = run;
  const {q, k, v} = inputs;
  let output: TensorInfo[] | undefined;
  let stats: TensorInfo | undefined;
  for (const chunk of keyChunks(inputs, run.attrs, run.sizes, variant.side)) {
    const textures = {...options, ...run.indexTextures(chunk), q, k, v, previousStats: stats};
    const hasPrevious = output !== undefined;
    const chunkShape = run.scoreShape(chunk);
    const scores = run.makePlanes(scoresProgram(variant), chunkShape, textures, chunk);
    const withScores = {...textures, ...planesNamed('scores', scores)};
    const newStats = run.make(runningStatsProgram(variant, hasPrevious), run.rowShape, withScores, chunk);
    const withStats = {...withScores, stats: newStats};
    const weights = run.makePlanes(weightsProgram(variant), chunkShape, withStats, chunk);
    run.release(...scores);
    const withWeights = {...withStats, ...planesNamed('weights', weights), ...planesNamed('previous', output)};
    const sum = sumOverKeysProgram(variant, 'v', hasPrevious);
    const newOutput = run.makePlanes(sum, run.resultShape('queries', 'valueDepth'), withWeights, chunk);
    run.release(...weights, ...(output ?? []), stats);
    [output, stats] = [newOutput, newStats];
  }
  return {output: run.assemble(output as TensorInfo[], 'queries', 'valueDepth'), stats: stats as TensorInfo};
}

export const webglKernels = attentionKernels('webgl', {
  forward: flashAttention,
  backward: flashAttentionBackward,
  biasBackward: flashAttentionBiasBackward,
  slopesBackward: flashAttentionSlopesBackward,
});
