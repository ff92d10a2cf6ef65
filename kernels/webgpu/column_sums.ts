/** The WebGPU kernel for sums of columns: of chunks of rows first, then of the chunks' sums. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {columnSumsKernel} from '../column_sums_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {COLUMNS_ACROSS, columnSumsShader} from './column_sums_wgsl.js';
import {dispatch} from './dispatch.js';

/** So many workgroups keep a GPU busy. */
const ENOUGH_WORKGROUPS = 512;
/** Of fewer rows than this in each chunk, the second dispatch takes longer than it saves. */
const LEAST_CHUNK_ROWS = 64;

export const webgpuColumnSums = columnSumsKernel('webgpu', (x, backend) => sumColumns(backend as WebGPUBackend, x));

/** [rows, columns] → [columns]. */
export function sumColumns(backend: WebGPUBackend, x: TensorInfo): TensorInfo {
  assertBufferFits(backend.device, 'columnSums', 'x', x.shape);
  const [rows, columns] = x.shape;
  const chunks = Math.ceil(ENOUGH_WORKGROUPS / Math.ceil(columns / columnsOfGroup(columns)));
  const chunkRows = Math.max(LEAST_CHUNK_ROWS, Math.ceil(rows / chunks));
  const sums = sumChunks(backend, x, chunkRows);
  const total = sums.shape[0] === 1 ? sums : sumChunks(backend, sums, sums.shape[0]);
  if (total !== sums) backend.disposeData(sums.dataId);
  return {...total, shape: [columns]};
}

const isWhole = (columns: number) => columns % 4 === 0;

function columnsOfGroup(columns: number): number {
  return isWhole(columns) ? 4 * COLUMNS_ACROSS : COLUMNS_ACROSS;
}

/** [rows, columns] → [chunks, columns]. */
function sumChunks(backend: WebGPUBackend, x: TensorInfo, chunkRows: number): TensorInfo {
  const [rows, columns] = x.shape;
  const element = isWhole(columns) ? 'vec4f' : 'f32';
  const chunks = Math.ceil(rows / chunkRows);
  const sums = backend.makeTensorInfo([chunks, columns], 'float32');
  dispatch(backend, {
    key: `column sums ${element}`,
    makeShader: () => columnSumsShader(element),
    tensors: {x, sums},
    uniforms: Uint32Array.of(rows, isWhole(columns) ? columns / 4 : columns, chunkRows, chunks).buffer,
    workgroups: Math.ceil(columns / columnsOfGroup(columns)) * chunks,
  });
  return sums;
}
