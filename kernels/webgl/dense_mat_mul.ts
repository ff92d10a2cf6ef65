/** The WebGL kernel of large dense products, in two passes: their planes, and the product out of these, with a bias. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {KernelConfig, TensorInfo} from '@tensorflow/tfjs-core';
import {DenseMatMul, type DenseMatMulAttrs, type DenseMatMulInputs} from '../../src/kernel_names.js';
import {type DenseMatMulSizes, denseMatMulSizes} from '../dense_mat_mul_sizes.js';
import {matMulOfTfjs} from '../fallback/dense_mat_mul.js';
import {denseMatMulProgram, denseMatMulUniforms, SIDE} from './dense_mat_mul_programs.js';
import {runPackedProgram} from './packed_program.js';
import {assembleProgram, planeShape, planesNamed} from './register_tiles_glsl.js';
import {runRenderTargetsProgram, supportsTargets} from './render_targets.js';
import {assertTexturesFit} from './texture_limits.js';

/** With less to do, the second pass takes longer than the first one saves. */
export const leastWork = {inner: 32, multiplyAdds: 2 ** 18};

export const webglDenseMatMul: KernelConfig = {
  kernelName: DenseMatMul,
  backendName: 'webgl',
  kernelFunc: (call): TensorInfo => {
    const backend = call.backend as MathBackendWebGL;
    const inputs = call.inputs as DenseMatMulInputs;
    const attrs = call.attrs as unknown as DenseMatMulAttrs;
    const sizes = denseMatMulSizes(inputs, attrs);
    const {rows, columns, inner} = sizes;
    const isLarge = inner >= leastWork.inner && rows * columns * inner >= leastWork.multiplyAdds;
    if (!isLarge || !supportsTargets(backend, SIDE ** 2)) return matMulOfTfjs(inputs, attrs);
    return multiply(backend, inputs, attrs, sizes);
  },
};

function multiply(
  backend: MathBackendWebGL,
  {a, b, bias}: DenseMatMulInputs,
  attrs: DenseMatMulAttrs,
  {rows, columns, inner}: DenseMatMulSizes,
): TensorInfo {
  const shape = [rows, columns];
  assertTexturesFit('denseMatMul', {a: a.shape, b: b.shape, 'the product': shape});
  const values = [rows, columns, inner].map((size) => [size]);
  const program = denseMatMulProgram(attrs);
  const matrices = {matrixA: a, matrixB: b};
  const planes = runRenderTargetsProgram(
    backend,
    program,
    planeShape(shape, SIDE),
    matrices,
    denseMatMulUniforms,
    values,
  );
  const assemble = assembleProgram(SIDE, 'rows', 'columns', bias !== undefined);
  const textures = {...planesNamed('plane', planes), bias};
  const product = runPackedProgram(backend, assemble, shape, textures, denseMatMulUniforms, values);
  for (const plane of planes) backend.disposeIntermediateTensorInfo(plane);
  return product;
}
