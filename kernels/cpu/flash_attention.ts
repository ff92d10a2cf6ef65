/** CPU kernels of attention: host arrays in, the float64 loops of attention_rows.ts, float32 out. */

import type {MathBackendCPU} from '@tensorflow/tfjs-backend-cpu';
import type {KernelFunc, NamedAttrMap, NamedTensorInfoMap, TensorInfo, TypedArray} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionBackwardInputs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {attentionKernels} from '../attention_kernels.js';
import {attentionSizes, broadcastStrides, shapeInOrder} from '../attention_sizes.js';
import {type AttentionGradients, type AttentionProblem, attentionBackward, attentionForward} from './attention_rows.js';

interface CpuCall {
  inputs: NamedTensorInfoMap;
  backend: unknown;
  attrs?: NamedAttrMap;
}

function forward(call: CpuCall): TensorInfo[] {
  const backend = call.backend as MathBackendCPU;
  const inputs = call.inputs as FlashAttentionInputs;
  const attrs = call.attrs as unknown as FlashAttentionAttrs;
  const problem = readProblem(backend, inputs, attrs);
  const {batch, heads, queries, valueDepth} = problem.sizes;
  const {output, lse} = attentionForward(problem);
  return [
    makeFloat32(backend, shapeInOrder(attrs.order, batch, heads, queries, valueDepth), output),
    makeFloat32(backend, [batch, heads, queries, 2], softmaxStats(lse)),
  ];
}

function backward(call: CpuCall): TensorInfo[] {
  const {q, k, v} = call.inputs as FlashAttentionInputs;
  const backend = call.backend as MathBackendCPU;
  const {dq, dk, dv} = gradients(call);
  return [makeFloat32(backend, q.shape, dq), makeFloat32(backend, k.shape, dk), makeFloat32(backend, v.shape, dv)];
}

function biasBackward(call: CpuCall): TensorInfo {
  const bias = call.inputs.bias as TensorInfo;
  return makeFloat32(call.backend as MathBackendCPU, bias.shape, gradients(call).dBias as Float64Array);
}

function slopesBackward(call: CpuCall): TensorInfo {
  const slopes = call.inputs.alibiSlopes as TensorInfo;
  return makeFloat32(call.backend as MathBackendCPU, slopes.shape, gradients(call).dSlopes as Float64Array);
}

function gradients(call: CpuCall): AttentionGradients {
  const backend = call.backend as MathBackendCPU;
  const inputs = call.inputs as FlashAttentionBackwardInputs;
  const problem = readProblem(backend, inputs, call.attrs as unknown as FlashAttentionAttrs);
  const dLse = inputs.dSoftmaxStats && read(backend, inputs.dSoftmaxStats).filter((_, i) => i % 2 === 0);
  return attentionBackward(problem, read(backend, inputs.dOutput), dLse);
}

/** lse as the reference, and the sum that its rounding leaves; the backward kernels here recompute both. */
function softmaxStats(lse: Float64Array): Float64Array {
  const stats = new Float64Array(2 * lse.length);
  lse.forEach((value, row) => {
    stats.set([value, Math.exp(value - Math.fround(value))], 2 * row);
  });
  return stats;
}

function readProblem(
  backend: MathBackendCPU,
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
): AttentionProblem {
  const {bias, mask, alibiSlopes, queryLengths, keyLengths} = inputs;
  return {
    sizes: attentionSizes(inputs, attrs.order),
    attrs,
    q: read(backend, inputs.q),
    k: read(backend, inputs.k),
    v: read(backend, inputs.v),
    bias: bias && {values: read(backend, bias), strides: broadcastStrides(bias)},
    mask: mask && {values: read(backend, mask), strides: broadcastStrides(mask)},
    alibiSlopes: alibiSlopes && {
      values: read(backend, alibiSlopes),
      batchStride: alibiSlopes.shape[0] === 1 ? 0 : alibiSlopes.shape[1],
    },
    queryLengths: queryLengths && read(backend, queryLengths),
    keyLengths: keyLengths && read(backend, keyLengths),
  };
}

function read(backend: MathBackendCPU, tensor: TensorInfo): TypedArray {
  return backend.data.get(tensor.dataId).values as TypedArray;
}

function makeFloat32(backend: MathBackendCPU, shape: number[], values: Float64Array): TensorInfo {
  return backend.makeTensorInfo(shape, 'float32', Float32Array.from(values));
}

export const cpuKernels = attentionKernels('cpu', {
  forward: forward as KernelFunc,
  backward: backward as KernelFunc,
  biasBackward: biasBackward as KernelFunc,
  slopesBackward: slopesBackward as KernelFunc,
});
