/**
 * The head table: slope, query length and key length of every query head of every sample in one small buffer, so that
 * attention kernels spend one binding on three optional tensors.
 */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {FlashAttentionInputs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import {attentionShader} from './attention_wgsl.js';
import {dispatch} from './dispatch.js';
import {type Binding, entryPoint, type Shader} from './shader.js';

const THREADS = 64;

/** Makes the table [B·H, 4] if the call has slopes or lengths. The caller disposes it. */
export function makeHeadTable(
  backend: WebGPUBackend,
  inputs: FlashAttentionInputs,
  sizes: AttentionSizes,
  params: ArrayBuffer,
): TensorInfo | undefined {
  const {alibiSlopes, queryLengths, keyLengths} = inputs;
  if (!alibiSlopes && !queryLengths && !keyLengths) return undefined;
  const count = sizes.batch * sizes.heads;
  const slopesPerBatch = alibiSlopes !== undefined && alibiSlopes.shape[0] > 1;
  const heads = backend.makeTensorInfo([count, 4], 'float32');
  dispatch(backend, {
    key: `head table ${[Boolean(alibiSlopes), slopesPerBatch, Boolean(queryLengths), Boolean(keyLengths)]}`,
    makeShader: () => headTableShader(inputs, slopesPerBatch),
    tensors: {alibiSlopes, queryLengths, keyLengths, heads},
    uniforms: params,
    workgroups: Math.ceil(count / THREADS),
  });
  return heads;
}

function headTableShader(inputs: FlashAttentionInputs, slopesPerBatch: boolean): Shader {
  const bindings: Binding[] = [];
  if (inputs.alibiSlopes) bindings.push({name: 'alibiSlopes', access: 'read', element: 'f32'});
  if (inputs.queryLengths) bindings.push({name: 'queryLengths', access: 'read', element: 'i32'});
  if (inputs.keyLengths) bindings.push({name: 'keyLengths', access: 'read', element: 'i32'});
  bindings.push({name: 'heads', access: 'read_write', element: 'vec4f'});
  const length = (name: 'queryLengths' | 'keyLengths', size: string) =>
    inputs[name] ? `clamp(${name}[index / params.heads], 0, i32(${size}))` : size;
  const slope = `alibiSlopes[${slopesPerBatch ? 'index' : 'index % params.heads'}]`;
  return attentionShader(
    bindings,
    entryPoint(
      THREADS,
      `
  let index = workgroup * ${THREADS}u + localIndex;
  if (index >= params.batch * params.heads) { return; }
  heads[index] = vec4f(
    ${inputs.alibiSlopes ? slope : '0.0'},
    f32(${length('queryLengths', 'params.queries')}),
    f32(${length('keyLengths', 'params.keys')}),
    0.0);`,
    ),
  );
}
