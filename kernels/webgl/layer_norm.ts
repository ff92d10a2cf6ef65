/** The WebGL kernels of layer normalization: two or three passes forward, as many for dx, three for both weights. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {type TensorInfo, util} from '@tensorflow/tfjs-core';
import {layerNormKernels, rowStatsShape} from '../layer_norm_kernels.js';
import {
  chunkMomentsProgram,
  chunkSumsProgram,
  chunkWeightsProgram,
  layerNormBackwardProgram,
  layerNormProgram,
  layerNormUniforms,
  rowStatsProgram,
  rowSumsProgram,
  weightProgram,
} from './layer_norm_programs.js';
import {type PackedProgram, runPackedProgram, type Textures} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';

/** Texels that one fragment adds up at least, if there are so many: a pass more has to pay. */
const CHUNK_TEXELS = 256;
const CHUNK_PAIRS = 64;

/** The programs' uniforms, by name. */
type Sizes = Record<(typeof layerNormUniforms)[number]['name'], number>;

function sizesOf({shape}: TensorInfo, epsilon = 0): Sizes {
  const [matrixRows, width] = [1, ...shape].slice(-2);
  const rowPairs = util.sizeFromShape(shape.slice(0, -2)) * Math.ceil(matrixRows / 2);
  const chunkTexels = chunkLength(Math.ceil(width / 2), CHUNK_TEXELS);
  const chunkPairs = chunkLength(rowPairs, CHUNK_PAIRS);
  return {
    rowPairs,
    matrixRows,
    width,
    chunkTexels,
    rowChunks: Math.ceil(width / (2 * chunkTexels)),
    chunkPairs,
    columnChunks: Math.ceil(rowPairs / chunkPairs),
    epsilon,
  };
}

/** Of many, chunks are as long as there are chunks, so that no fragment adds up very many of either. */
function chunkLength(count: number, least: number): number {
  return Math.max(least, Math.ceil(Math.sqrt(count)));
}

export const webglLayerNormKernels = layerNormKernels('webgl', {
  forward({x, gamma, beta}, {epsilon}, backend) {
    assertTexturesFit('layerNorm', {x: x.shape});
    const sizes = sizesOf(x, epsilon);
    const ofChunks = chunkMomentsProgram(sizes.rowChunks === 1);
    const stats = reduceRows(backend, sizes, {ofChunks, ofRows: rowStatsProgram()}, {x});
    return [run(backend, sizes, layerNormProgram(), x.shape, {x, stats, gamma, beta}), stats];
  },
  backward({x, gamma, rowStats: stats, dy}, backend) {
    const sizes = sizesOf(x);
    const textures = {x, dy, gamma, stats};
    const sums = reduceRows(backend, sizes, {ofChunks: chunkSumsProgram(), ofRows: rowSumsProgram()}, textures);
    const dx = run(backend, sizes, layerNormBackwardProgram(), x.shape, {...textures, sums});
    dispose(backend, sums);
    return dx;
  },
  weightsBackward({x, rowStats: stats, dy}, backend) {
    const sizes = sizesOf(x);
    const {columnChunks, width} = sizes;
    const chunks = run(backend, sizes, chunkWeightsProgram(), [columnChunks, 2, width], {x, dy, stats});
    const weights = (['gamma', 'beta'] as const).map((name) =>
      run(backend, sizes, weightProgram(name), [width], {chunks}),
    );
    dispose(backend, chunks);
    return weights;
  },
});

/** Makes two numbers for each row of x, [.., 2]: of chunks of the row first, if it has several. */
function reduceRows(
  backend: object,
  sizes: Sizes,
  {ofChunks, ofRows}: Record<'ofChunks' | 'ofRows', PackedProgram>,
  textures: Textures & {x: TensorInfo},
): TensorInfo {
  const [rows, shape] = [textures.x.shape.slice(0, -1), rowStatsShape(textures.x)];
  if (sizes.rowChunks === 1) return run(backend, sizes, ofChunks, shape, textures);
  const chunks = run(backend, sizes, ofChunks, [...rows, 2 * sizes.rowChunks], textures);
  const result = run(backend, sizes, ofRows, shape, {chunks});
  dispose(backend, chunks);
  return result;
}

function run(
  backend: object,
  sizes: Sizes,
  program: PackedProgram,
  outputShape: number[],
  textures: Textures,
): TensorInfo {
  const values = layerNormUniforms.map(({name}) => [sizes[name]]);
  return runPackedProgram(backend as MathBackendWebGL, program, outputShape, textures, layerNormUniforms, values);
}

function dispose(backend: object, t: TensorInfo): void {
  (backend as MathBackendWebGL).disposeIntermediateTensorInfo(t);
}
