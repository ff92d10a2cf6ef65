/** Attention's forward pass for few queries: one dispatch, or two where several chunks of the keys are merged. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {attentionParams} from './attention_params.js';
import {variantKey} from './attention_wgsl.js';
import {chunkMergeShader} from './chunk_merge_wgsl.js';
import {dispatch} from './dispatch.js';
import type {FewQueriesPlan} from './few_queries_tiles.js';
import {fewQueriesShader} from './few_queries_wgsl.js';
import {type ForwardCall, makeForwardResults} from './forward_call.js';
import {makeHeadTable} from './head_table.js';

export function attendFewQueries(backend: WebGPUBackend, call: ForwardCall, plan: FewQueriesPlan): TensorInfo[] {
  const {inputs, attrs, sizes, variant} = call;
  const {tile, rowTiles, chunks} = plan;
  const {batch, heads, keyHeads, queries, valueDepth} = sizes;
  const uniforms = attentionParams(inputs, attrs, sizes, {rowTiles, columnTiles: chunks});
  const workgroups = batch * keyHeads * rowTiles * chunks;
  const severalChunks = chunks > 1;
  const made = (shape: number[]) => (severalChunks ? backend.makeTensorInfo(shape, 'float32') : undefined);

  const table = makeHeadTable(backend, inputs, sizes, uniforms);
  const chunkStats = made([workgroups * tile.rows, 2]);
  const chunkOutputs = made([workgroups * tile.rows, 4 * Math.ceil(valueDepth / 4)]);
  const {output, softmaxStats} = makeForwardResults(backend, call);
  const tensors = {...inputs, heads: table, chunkStats, chunkOutputs, output, softmaxStats};
  dispatch(backend, {
    key: `attention of few queries ${variantKey(variant)} ${JSON.stringify(tile)} ${severalChunks}`,
    makeShader: () => fewQueriesShader(variant, tile, severalChunks),
    tensors,
    uniforms,
    workgroups,
  });
  if (severalChunks) {
    const {order} = variant;
    dispatch(backend, {
      key: `attention chunk merge ${order} ${valueDepth} ${tile.rows}`,
      makeShader: () => chunkMergeShader(variant, tile),
      tensors,
      uniforms,
      workgroups: batch * heads * queries,
    });
  }
  for (const temporary of [table, chunkStats, chunkOutputs]) if (temporary) backend.disposeData(temporary.dataId);
  return [output, softmaxStats];
}
