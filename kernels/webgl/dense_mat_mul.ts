/** The WebGL kernel of large dense products, in two passes: their planes, and the product out of these, with a bias. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {type DenseMatMulCall, denseMatMulKernel} from '../dense_mat_mul_kernels.js';
import {denseMatMulProgram, denseMatMulUniforms, PRODUCT_TILE} from './dense_mat_mul_programs.js';
import {runPackedProgram} from './packed_program.js';
import {assembleProgram, planesNamed, quadCount} from './register_tiles_glsl.js';
import {runPlanesProgram, supportsTargets} from './render_targets.js';
import {assertTexturesFit} from './texture_limits.js';
import {texel} from './textures_glsl.js';

/** With less to do, the second pass takes longer than the first one saves. */
const LEAST_INNER = 32;
const LEAST_MULTIPLY_ADDS = 2 ** 18;

export const webglDenseMatMul = denseMatMulKernel('webgl', (call, kernelBackend) => {
  const backend = kernelBackend as MathBackendWebGL;
  const {rows, columns, inner} = call.sizes;
  const isLarge = inner >= LEAST_INNER && rows * columns * inner >= LEAST_MULTIPLY_ADDS;
  return isLarge && supportsTargets(backend, quadCount(PRODUCT_TILE)) ? multiply(backend, call) : undefined;
});

function multiply(backend: MathBackendWebGL, {inputs, attrs, sizes}: DenseMatMulCall): TensorInfo {
  const {a, b, bias} = inputs;
  const {rows, columns, inner} = sizes;
  const shape = [rows, columns];
  assertTexturesFit('denseMatMul', {a: a.shape, b: b.shape, 'the product': shape});
  const values = [rows, columns, inner].map((size) => [size]);
  const planes = runPlanesProgram(
    backend,
    denseMatMulProgram(attrs),
    shape,
    {matrixA: a, matrixB: b},
    denseMatMulUniforms,
    values,
  );
  const assemble = assembleProgram({
    tile: planes.tile,
    rows: 'rows',
    columns: 'columns',
    ...(bias && {inputs: ['bias'], finish: `result += ${texel('bias', 'quad.y')}.xyxy;`}),
  });
  const textures = {...planesNamed('plane', planes), bias};
  const product = runPackedProgram(backend, assemble, shape, textures, denseMatMulUniforms, values);
  for (const plane of planes.textures) backend.disposeIntermediateTensorInfo(plane);
  return product;
}
