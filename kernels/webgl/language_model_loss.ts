/** The WebGL kernels of a language model's loss: of long rows in chunks. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {languageModelLossKernels} from '../language_model_loss_kernels.js';
import {sumColumns} from './column_sums.js';
import {
  CHUNK_TEXELS,
  chunkStatsProgram,
  lossGradientProgram,
  lossUniforms,
  mergeStatsProgram,
  rowLossProgram,
} from './language_model_loss_programs.js';
import {type PackedProgram, runPackedProgram, type Textures} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';

export const webglLanguageModelLossKernels = languageModelLossKernels('webgl', {
  forward({logits, targets}, kernelBackend) {
    const backend = kernelBackend as MathBackendWebGL;
    assertTexturesFit('languageModelLoss', {logits: logits.shape});
    const [rows] = logits.shape;
    const softmaxStats = statsOfRows(backend, logits);
    const losses = run(backend, rowLossProgram(), [rows, 1], {logits, targets, softmaxStats}, logits.shape);
    const loss = sumColumns(backend, losses);
    backend.disposeIntermediateTensorInfo(losses);
    return [{...loss, shape: []}, softmaxStats];
  },
  backward(inputs, backend) {
    const {shape} = inputs.logits;
    return run(backend as MathBackendWebGL, lossGradientProgram(), shape, {...inputs}, shape);
  },
});

function statsOfRows(backend: MathBackendWebGL, logits: TensorInfo): TensorInfo {
  const [rows, columns] = logits.shape;
  const chunks = Math.ceil(columns / (2 * CHUNK_TEXELS));
  const stats = run(backend, chunkStatsProgram(), [rows, 2 * chunks], {logits}, logits.shape);
  if (chunks === 1) return stats;
  const merged = run(backend, mergeStatsProgram(), [rows, 2], {stats}, logits.shape);
  backend.disposeIntermediateTensorInfo(stats);
  return merged;
}

function run(
  backend: MathBackendWebGL,
  program: PackedProgram,
  outputShape: number[],
  textures: Textures,
  [rows, columns]: number[],
): TensorInfo {
  const values = {rows, columns, chunks: Math.ceil(columns / (2 * CHUNK_TEXELS)), factor: 1 / rows};
  return runPackedProgram(
    backend,
    program,
    outputShape,
    textures,
    lossUniforms,
    lossUniforms.map(({name}) => [values[name]]),
  );
}
