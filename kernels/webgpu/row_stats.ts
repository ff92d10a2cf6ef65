/**
 * What the backward kernels need to know of each query row, in one buffer `stats` of vec4f:
 *
 * - entry n: (slope, query length, key length, scale) of head n: the head table of head_table.ts, and what dOutput is
 *   multiplied with before it is rounded to float16 (gradient_scale.ts), or 0 where it is not;
 * - entry B·H + row: (reference as a score, 1 / sum, delta, dLse), with delta = Σ dOutput·output − dLse, of the rounded
 *   dOutput where it is: dOutput·vᵀ − delta would otherwise be off by the rounding of all of the row.
 *
 * Gradients share a binding this way because they come close to the 8 storage buffers of the default limits. A row that
 * saw no key gets a reference so high that every probability recomputed from it is 0.
 */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {type FlashAttentionBackwardInputs, HIDDEN_BELOW} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {
  type AttentionVariant,
  attentionShader,
  headBase,
  headFunctions,
  LOG2_E,
  loadFunction,
  operandBinding,
  variantKey,
} from './attention_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {makeGradientScales} from './gradient_scale.js';
import {makeHeadTable} from './head_table.js';
import {declareShares, plus, reductionFunction} from './reduction_wgsl.js';
import {entryPoint, type Shader} from './shader.js';

/** Rows of a workgroup. */
const ROWS = 64;
/** Of delta, of four numbers each; as many invocations share a row, so that neighbours read neighbouring numbers. */
const SUMS = 4;

/** The entry of rows that saw nothing. */
const UNSEEN = 'vec4f(1e37, 1.0, 0.0, 0.0)';

/**
 * Makes the buffer, a tensor [B·H + B·H·Sq, 4]. The caller disposes it.
 * @param roundsGradient whether the kernels that read it round dOutput to float16
 */
export function makeRowStats(
  backend: WebGPUBackend,
  inputs: FlashAttentionBackwardInputs,
  variant: AttentionVariant,
  sizes: AttentionSizes,
  params: ArrayBuffer,
  roundsGradient: boolean,
): TensorInfo {
  const heads = sizes.batch * sizes.heads;
  const rows = heads * sizes.queries;
  const shape = [heads + rows, 4];
  assertBufferFits(backend.device, 'flashAttention', 'the row statistics of the backward pass,', shape);
  const table = makeHeadTable(backend, inputs, sizes, params);
  const stats = backend.makeTensorInfo(shape, 'float32');
  const {output, dOutput, softmaxStats, dSoftmaxStats} = inputs;
  const hasDLse = dSoftmaxStats !== undefined;
  const gradientScales = roundsGradient
    ? makeGradientScales(backend, {dOutput, heads: table}, variant, sizes, params)
    : undefined;
  dispatch(backend, {
    key: `attention row stats ${variantKey(variant)} ${hasDLse} ${roundsGradient}`,
    makeShader: () => rowStatsShader(variant, hasDLse, roundsGradient),
    tensors: {output, dOutput, softmaxStats, dSoftmaxStats, gradientScales, heads: table, stats},
    uniforms: params,
    workgroups: Math.ceil(rows / ROWS),
  });
  for (const made of [table, gradientScales]) if (made) backend.disposeData(made.dataId);
  return stats;
}

/** WGSL `statsOf(head, query)` for the kernels that read the buffer. */
export const statsFunction = `
fn statsOf(head: Head, query: u32) -> vec4f {
  // Without a branch, which would keep compilers from moving loads past it.
  let isRow = i32(query) < head.queryLength;
  let row = params.batch * params.heads + head.index * params.queries + query;
  return select(${UNSEEN}, stats[select(0u, row, isRow)], isRow);
}`;

function rowStatsShader(variant: AttentionVariant, hasDLse: boolean, roundsGradient: boolean): Shader {
  const quads = Math.ceil(variant.valueDepth / 4);
  const loaded = 'load_dOutput(oBase, params.queries, query, quad)';
  const gradient = roundsGradient ? `quantizeToF16(gradientScale * ${loaded}) / gradientScale` : loaded;
  return attentionShader(
    [
      operandBinding(variant, 'output', 'read'),
      operandBinding(variant, 'dOutput', 'read'),
      {name: 'softmaxStats', access: 'read', element: 'vec2f'},
      ...(hasDLse ? [{name: 'dSoftmaxStats', access: 'read', element: 'vec2f'} as const] : []),
      ...(roundsGradient ? [{name: 'gradientScales', access: 'read', element: 'f32'} as const] : []),
      ...(variant.headTable ? [{name: 'heads', access: 'read', element: 'vec4f'} as const] : []),
      {name: 'stats', access: 'read_write', element: 'vec4f'},
    ],
    `
${loadFunction(variant, 'output')}
${loadFunction(variant, 'dOutput')}
${headFunctions(variant, 'heads')}

${declareShares(SUMS * ROWS, 'vec4f')}
${reductionFunction({name: 'sumOfRow', type: 'vec4f', count: SUMS, combine: plus})}
${entryPoint(
  SUMS * ROWS,
  `
  let headCount = params.batch * params.heads;
  let rowCount = headCount * params.queries;
  let ownRow = workgroup * ${ROWS}u + localIndex / ${SUMS}u;
  let place = localIndex % ${SUMS}u;
  // All take part in the sum: what would be past the last row is that row again, and stores nothing.
  let row = min(ownRow, rowCount - 1u);
  let query = row % params.queries;
  let headIndex = row / params.queries;
  let head = makeHead(headIndex / params.heads, headIndex % params.heads);
  let gradientScale = ${roundsGradient ? 'gradientScales[headIndex]' : '0.0'};
  let oBase = ${headBase(variant, 'output', 'head.batch', 'head.head')};
  // Many short sums round less than a long one: what is left of dOutput·vᵀ − delta is often far smaller than either.
  var ownSum = vec4f();
  for (var quad = place; quad < ${quads}u; quad += ${SUMS}u) {
    ownSum = fma(load_output(oBase, params.queries, query, quad), ${gradient}, ownSum);
  }
  let products = sumOfRow(localIndex, ownSum);
  if (place > 0u || ownRow >= rowCount) { return; }
  if (query == 0u) {
    stats[headIndex] = vec4f(head.slope, f32(head.queryLength), f32(head.keyLength), gradientScale);
  }
  let dLse = ${hasDLse ? 'dSoftmaxStats[row].x' : '0.0'};
  let delta = dot(products, vec4f(1.0)) - dLse;
  let reference = softmaxStats[row].x;
  let sum = softmaxStats[row].y;
  let seen = reference > ${HIDDEN_BELOW} || reference != reference;
  let ofRow = vec4f(reference * ${LOG2_E}, 1.0 / sum, delta, dLse);
  stats[headCount + row] = select(${UNSEEN}, ofRow, seen);`,
)}`,
  );
}
