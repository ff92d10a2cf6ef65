/**
 * Of each head, the power of two that brings the largest element of dOutput near 1, for kernels that multiply it in float16:
 * whose smallest number is 2⁻²⁴, and gradients are often smaller.
 */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {AttentionSizes} from '../attention_sizes.js';
import {
  type AttentionVariant,
  attentionShader,
  headBase,
  headFunctions,
  loadFunction,
  operandBinding,
  variantKey,
} from './attention_wgsl.js';
import {dispatch} from './dispatch.js';
import {declareShares, maximum, reductionFunction} from './reduction_wgsl.js';
import {entryPoint, type Shader} from './shader.js';

const THREADS = 256;

/** Makes the scales, a tensor [B, H]. The caller disposes it. */
export function makeGradientScales(
  backend: WebGPUBackend,
  {dOutput, heads}: {dOutput: TensorInfo; heads?: TensorInfo},
  variant: AttentionVariant,
  sizes: AttentionSizes,
  params: ArrayBuffer,
): TensorInfo {
  const gradientScales = backend.makeTensorInfo([sizes.batch, sizes.heads], 'float32');
  dispatch(backend, {
    key: `attention gradient scales ${variantKey(variant)}`,
    makeShader: () => gradientScalesShader(variant),
    tensors: {dOutput, heads, gradientScales},
    uniforms: params,
    workgroups: sizes.batch * sizes.heads,
  });
  return gradientScales;
}

function gradientScalesShader(variant: AttentionVariant): Shader {
  const quads = Math.ceil(variant.valueDepth / 4);
  return attentionShader(
    [
      operandBinding(variant, 'dOutput', 'read'),
      ...(variant.headTable ? [{name: 'heads', access: 'read', element: 'vec4f'} as const] : []),
      {name: 'gradientScales', access: 'read_write', element: 'f32'},
    ],
    `
${declareShares(THREADS, 'f32')}
${reductionFunction({name: 'largestOfAll', type: 'f32', count: THREADS, combine: maximum})}
${loadFunction(variant, 'dOutput')}
${headFunctions(variant, 'heads')}
// 1 for 0, and for what is no number or has no reciprocal.
fn scaleFor(largest: f32) -> f32 {
  let exponent = bitcast<u32>(largest) >> 23u;
  return select(1.0, bitcast<f32>((254u - min(exponent, 253u)) << 23u), (exponent > 0u) & (exponent < 254u));
}
${entryPoint(
  THREADS,
  `
  if (workgroup >= params.batch * params.heads) { return; }
  let head = makeHead(workgroup / params.heads, workgroup % params.heads);
  let base = ${headBase(variant, 'dOutput', 'head.batch', 'head.head')};
  let rows = u32(head.queryLength);
  var largest = vec4f();
  for (var item = localIndex; item < rows * ${quads}u; item += ${THREADS}u) {
    largest = max(largest, abs(load_dOutput(base, rows, item / ${quads}u, item % ${quads}u)));
  }
  let ofHead = largestOfAll(localIndex, max(max(largest.x, largest.y), max(largest.z, largest.w)));
  if (localIndex == 0u) { gradientScales[workgroup] = scaleFor(ofHead); }`,
)}`,
  );
}
