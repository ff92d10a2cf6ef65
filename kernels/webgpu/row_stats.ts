/**
 * What the backward kernels need to know of each query row, in one buffer `stats` of vec4f:
 *
 * - entry n: (slope, query length, key length, 0) of head n, the head table of head_table.ts;
 * - entry B·H + row: (reference as a score, 1 / sum, delta, dLse), with delta = Σ dOutput·output − dLse.
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
import {makeHeadTable} from './head_table.js';
import {entryPoint, type Shader} from './shader.js';

const THREADS = 64;

/** The entry of rows that saw nothing. */
const UNSEEN = 'vec4f(1e37, 1.0, 0.0, 0.0)';

/** Makes the buffer, a tensor [B·H + B·H·Sq, 4]. The caller disposes it. */
export function makeRowStats(
  backend: WebGPUBackend,
  inputs: FlashAttentionBackwardInputs,
  variant: AttentionVariant,
  sizes: AttentionSizes,
  params: ArrayBuffer,
): TensorInfo {
  const heads = sizes.batch * sizes.heads;
  const rows = heads * sizes.queries;
  const shape = [heads + rows, 4];
  assertBufferFits(backend.device, 'flashAttention', 'the row statistics of the backward pass,', shape);
  const table = makeHeadTable(backend, inputs, sizes, params);
  const stats = backend.makeTensorInfo(shape, 'float32');
  const {output, dOutput, softmaxStats, dSoftmaxStats} = inputs;
  const hasDLse = dSoftmaxStats !== undefined;
  dispatch(backend, {
    key: `attention row stats ${variantKey(variant)} ${hasDLse}`,
    makeShader: () => rowStatsShader(variant, hasDLse),
    tensors: {output, dOutput, softmaxStats, dSoftmaxStats, heads: table, stats},
    uniforms: params,
    workgroups: Math.ceil(rows / THREADS),
  });
  if (table) backend.disposeData(table.dataId);
  return stats;
}

/** WGSL `statsOf(head, query)` for the kernels that read the buffer. */
export const statsFunction = `
fn statsOf(head: Head, query: u32) -> vec4f {
  if (i32(query) >= head.queryLength) { return ${UNSEEN}; }
  return stats[params.batch * params.heads + head.index * params.queries + query];
}`;

function rowStatsShader(variant: AttentionVariant, hasDLse: boolean): Shader {
  const quads = Math.ceil(variant.valueDepth / 4);
  return attentionShader(
    [
      operandBinding(variant, 'output', 'read'),
      operandBinding(variant, 'dOutput', 'read'),
      {name: 'softmaxStats', access: 'read', element: 'vec2f'},
      ...(hasDLse ? [{name: 'dSoftmaxStats', access: 'read', element: 'vec2f'} as const] : []),
      ...(variant.headTable ? [{name: 'heads', access: 'read', element: 'vec4f'} as const] : []),
      {name: 'stats', access: 'read_write', element: 'vec4f'},
    ],
    `
${loadFunction(variant, 'output')}
${loadFunction(variant, 'dOutput')}
${headFunctions(variant, 'heads')}
${entryPoint(
  THREADS,
  `
  let row = workgroup * ${THREADS}u + localIndex;
  let headCount = params.batch * params.heads;
  if (row >= headCount * params.queries) { return; }
  let query = row % params.queries;
  let headIndex = row / params.queries;
  let head = makeHead(headIndex / params.heads, headIndex % params.heads);
  if (query == 0u) {
    stats[headIndex] = vec4f(head.slope, f32(head.queryLength), f32(head.keyLength), 0.0);
  }
  let oBase = ${headBase(variant, 'output', 'head.batch', 'head.head')};
  // Four short sums round less than one long one.
  var sums = vec4f();
  for (var quad = 0u; quad < ${quads}u; quad++) {
    sums += load_output(oBase, params.queries, query, quad) * load_dOutput(oBase, params.queries, query, quad);
  }
  let dLse = ${hasDLse ? 'dSoftmaxStats[row].x' : '0.0'};
  let delta = dot(sums, vec4f(1.0)) - dLse;
  let reference = softmaxStats[row].x;
  let sum = softmaxStats[row].y;
  let seen = reference > ${HIDDEN_BELOW} || reference != reference;
  let ofRow = vec4f(reference * ${LOG2_E}, 1.0 / sum, delta, dLse);
  stats[headCount + row] = select(${UNSEEN}, ofRow, seen);`,
)}`,
  );
}
