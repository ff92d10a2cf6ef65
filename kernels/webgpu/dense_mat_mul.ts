/** The WebGPU kernel of large dense products; small and thin ones are left to tfjs. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {type DenseMatMulCall, denseMatMulKernel} from '../dense_mat_mul_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {sumColumns} from './column_sums.js';
import {type DenseMatMulVariant, denseMatMulShader} from './dense_mat_mul_wgsl.js';
import {dispatch} from './dispatch.js';
import {chooseMatMulPlan, denseProductTiles, type MatMulPlan} from './tile_sizes.js';

export const webgpuDenseMatMul = denseMatMulKernel('webgpu', (call, kernelBackend) => {
  const backend = kernelBackend as WebGPUBackend;
  const {sizes, inputs, attrs} = call;
  const plan = chooseMatMulPlan(backend.device, sizes, {...attrs, hasBias: inputs.bias !== undefined});
  if (!plan) return undefined;
  const parts = multiply(backend, call, plan);
  if (plan.parts === 1) return parts;
  const {rows, columns} = sizes;
  const product = sumColumns(backend, {...parts, shape: [plan.parts, rows * columns]});
  backend.disposeData(parts.dataId);
  return {...product, shape: [rows, columns]};
});

/** → the product [rows, columns], or as many of them, one above the other, as there are parts to add up. */
function multiply(
  backend: WebGPUBackend,
  {inputs, attrs, sizes}: DenseMatMulCall,
  {tile, parts, innerOfPart}: MatMulPlan,
): TensorInfo {
  const {a, b, bias} = inputs;
  const {rows, columns, inner} = sizes;
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
