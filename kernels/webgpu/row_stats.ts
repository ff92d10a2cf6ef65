/**
 * What the backward kernels need to know of each query row, in one buffer `stats` of vec2f:
 *
 * - entries 2n and 2n + 1: (slope, query length) and (key length, 0) of head n, the head table of head_table.ts;
 * - entry 2·B·H + row: (lse in log2 units, delta) of each row, with delta = Σ dOutput·output − dLse.
 *
 * Gradients share a binding this way because they come close to the 8 storage buffers of the default limits. A row that
 * saw no key gets an lse so high that every probability recomputed from it is 0.
 */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {type FlashAttentionBackwardInputs, HIDDEN_BELOW} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {
  type AttentionVariant,
  entryPoint,
  headBase,
  headFunctions,
  LOG2_E,
  loadFunction,
  makeShader,
  operandBinding,
  type Shader,
  variantKey,
} from './attention_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {makeHeadTable} from './head_table.js';

const THREADS = 64;

/** The lse of rows that saw nothing. */
const UNSEEN = '1e37';

/** Makes the buffer, a tensor [2·B·H + B·H·Sq, 2]. The caller disposes it. */
export function makeRowStats(
  backend: WebGPUBackend,
  inputs: FlashAttentionBackwardInputs,
  variant: AttentionVariant,
  sizes: AttentionSizes,
  params: ArrayBuffer,
): TensorInfo {
  const heads = sizes.batch * sizes.heads;
  const rows = heads * sizes.queries;
  const shape = [2 * heads + rows, 2];
  assertBufferFits(backend.device, 'the row statistics of the backward pass,', shape);
  const table = makeHeadTable(backend, inputs, sizes, params);
  const stats = backend.makeTensorInfo(shape, 'float32');
  const {output, dOutput, lse, dLse} = inputs;
  dispatch(backend, {
    key: `attention row stats ${variantKey(variant)} ${dLse !== undefined}`,
    makeShader: () => rowStatsShader(variant, dLse !== undefined),
    tensors: {output, dOutput, lse, dLse, heads: table, stats},
    uniforms: params,
    workgroups: Math.ceil(rows / THREADS),
  });
  if (table) backend.disposeData(table.dataId);
  return stats;
}

/** WGSL `statsOf(head, query)` for the kernels that read the buffer. */
export const statsFunction = `
fn statsOf(head: Head, query: u32) -> vec2f {
  if (i32(query) >= head.queryLength) { return vec2f(${UNSEEN}, 0.0); }
  return stats[2u * params.batch * params.heads + head.index * params.queries + query];
}`;

function rowStatsShader(variant: AttentionVariant, hasDLse: boolean): Shader {
  const quads = Math.ceil(variant.valueDepth / 4);
  return makeShader(
    [
      operandBinding(variant, 'output', 'read'),
      operandBinding(variant, 'dOutput', 'read'),
      {name: 'lse', access: 'read', element: 'f32'},
      ...(hasDLse ? [{name: 'dLse', access: 'read', element: 'f32'} as const] : []),
      ...(variant.headTable ? [{name: 'heads', access: 'read', element: 'vec4f'} as const] : []),
      {name: 'stats', access: 'read_write', element: 'vec2f'},
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
    stats[2u * headIndex] = vec2f(head.slope, f32(head.queryLength));
    stats[2u * headIndex + 1u] = vec2f(f32(head.keyLength), 0.0);
  }
  let oBase = ${headBase(variant, 'output', 'head.batch', 'head.head')};
  var delta = ${hasDLse ? '-dLse[row]' : '0.0'};
  for (var quad = 0u; quad < ${quads}u; quad++) {
    delta += dot(load_output(oBase, params.queries, query, quad), load_dOutput(oBase, params.queries, query, quad));
  }
  let seen = lse[row] > ${HIDDEN_BELOW} || lse[row] != lse[row];
  stats[2u * headCount + row] = select(vec2f(${UNSEEN}, 0.0), vec2f(lse[row] * ${LOG2_E}, delta), seen);`,
)}`,
  );
}
