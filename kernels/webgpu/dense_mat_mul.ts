/** The WebGPU kernel of large dense products; small and thin ones are left to tfjs. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {KernelConfig, TensorInfo} from '@tensorflow/tfjs-core';
import {DenseMatMul, type DenseMatMulAttrs, type DenseMatMulInputs} from '../../src/kernel_names.js';
import {type DenseMatMulSizes, denseMatMulSizes} from '../dense_mat_mul_sizes.js';
import {matMulOfTfjs} from '../fallback/dense_mat_mul.js';
import {assertBufferFits} from './buffer_limits.js';
import {sumColumns} from './column_sums.js';
import {type DenseMatMulVariant, denseMatMulShader} from './dense_mat_mul_wgsl.js';
import {dispatch} from './dispatch.js';
import {chooseMatMulPlan, denseProductTiles, type MatMulPlan} from './tile_sizes.js';

export const webgpuDenseMatMul: KernelConfig = {
  kernelName: DenseMatMul,
  backendName: 'webgpu',
  kernelFunc: (call): TensorInfo => {
    const backend = call.backend as WebGPUBackend;
    const inputs = call.inputs as DenseMatMulInputs;
    const attrs = call.attrs as unknown as DenseMatMulAttrs;
    const sizes = denseMatMulSizes(inputs, attrs);
    const plan = chooseMatMulPlan(backend.device, {...sizes, hasBias: inputs.bias !== undefined});
    if (!plan) return matMulOfTfjs(inputs, attrs);
    const {a, b} = inputs;
    if (plan.parts === 1) return multiply(backend, inputs, attrs, sizes, plan);
    const sums = multiply(backend, {a, b}, attrs, sizes, plan);
    const {rows, columns} = sizes;
    const product = sumColumns(backend, {...sums, shape: [plan.parts, rows * columns]});
    backend.disposeData(sums.dataId);
    return {...product, shape: [rows, columns]};
  },
};

/** → the product [rows, columns], or as many of them, one above the other, as there are parts to add up. */
function multiply(
  backend: WebGPUBackend,
  {a, b, bias}: DenseMatMulInputs,
  attrs: DenseMatMulAttrs,
  {rows, columns, inner}: DenseMatMulSizes,
  {tile, parts, innerOfPart}: MatMulPlan,
): TensorInfo {
  const outShape = [parts * rows, columns];
  for (const [name, {shape}] of Object.entries({a, b, 'the product': {shape: outShape}})) {
    assertBufferFits(backend.device, 'denseMatMul', name, shape);
  }
  const out = backend.makeTensorInfo(outShape, 'float32');
  const [wholeA, wholeB, wholeOut] = [a, b, out].map(({shape}) => shape[1] % 4 === 0);
  const variant: DenseMatMulVariant = {
    ...attrs,
    hasBias: bias !== undefined,
    vectorized: {a: wholeA, b: wholeB, out: wholeOut},
  };
  dispatch(backend, {
    key: `dense product ${JSON.stringify(variant)} ${JSON.stringify(tile)}`,
    makeShader: () => denseMatMulShader(variant, tile),
    tensors: {a, b, bias, out},
    uniforms: Uint32Array.of(rows, columns, inner, innerOfPart, parts).buffer,
    workgroups: denseProductTiles(tile, [rows, columns]) * parts,
  });
  return out;
}
