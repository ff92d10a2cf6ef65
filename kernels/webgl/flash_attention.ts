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
import {outputProgram} from './result_programs.js';
import {assembleStatsProgram, runningStatsProgram, softmaxStatsProgram} from './row_programs.js';
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
  let output: TensorInfo | undefined;
  let stats: TensorInfo | undefined;
  const matrices = {...run.operands({q: inputs.q, v: inputs.v}), ...run.columns({k: inputs.k})};
  for (const chunk of keyChunks(inputs, run.attrs, run.sizes, variant.tile)) {
    const textures = {...options, ...run.indexTextures(chunk), ...matrices, previousStats: stats};
    const hasPrevious = output !== undefined;
    const chunkShape = run.scoreShape(chunk);
    const scores = run.makePlanes(scoresProgram(variant), chunkShape, textures, chunk);
    const withScores = {...textures, ...planesNamed('scores', scores)};
    const statsPlanes = run.makePlanes(runningStatsProgram(variant, hasPrevious), run.rowShape, withScores, chunk);
    const newStats = run.addTo(undefined, statsPlanes, assembleStatsProgram(variant), run.rowShape, {}, chunk);
    const withStats = {...withScores, stats: newStats};
    const weights = run.makePlanes(weightsProgram(variant), chunkShape, withStats, chunk);
    run.release(scores);
    const withWeights = {...withStats, ...planesNamed('weights', weights)};
    const shape = run.resultShape('queries', 'valueDepth');
    const sums = run.makePlanes(sumOverKeysProgram(variant, 'v'), shape, withWeights, chunk);
    run.release(weights);
    output = run.addTo(output, sums, outputProgram(variant, hasPrevious), shape, withStats, chunk);
    run.release(stats);
    stats = newStats;
  }
  return {output: output as TensorInfo, stats: stats as TensorInfo};
}

export const webglKernels = attentionKernels('webgl', {
  forward: flashAttention,
  backward: flashAttentionBackward,
  biasBackward: flashAttentionBiasBackward,
  slopesBackward: flashAttentionSlopesBackward,
});
