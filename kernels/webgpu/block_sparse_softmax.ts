/** The WebGPU kernels of the softmax over live blocks. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {KernelConfig, TensorInfo} from '@tensorflow/tfjs-core';
import {
  BlockSparseSoftmax,
  type BlockSparseSoftmaxAttrs,
  BlockSparseSoftmaxBackward,
  type BlockSparseSoftmaxBackwardAttrs,
  type BlockSparseSoftmaxBackwardInputs,
  type BlockSparseSoftmaxInputs,
} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {walkBuffer} from './block_sparse_mat_mul.js';
import {softmaxBackwardShader, softmaxShader} from './block_sparse_softmax_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {type Dispatch, dispatch} from './dispatch.js';

export const webgpuBlockSparseSoftmaxKernels: KernelConfig[] = [
  {
    kernelName: BlockSparseSoftmax,
    backendName: 'webgpu',
    kernelFunc: (call) => {
      const backend = call.backend as WebGPUBackend;
      const {values} = call.inputs as BlockSparseSoftmaxInputs;
      const {layout, scale, causal} = call.attrs as unknown as BlockSparseSoftmaxAttrs;
      assertBufferFits(backend.device, 'blockSparseSoftmax', 'values', values.shape);
      const probabilities = backend.makeTensorInfo(values.shape, 'float32');
      const shader = {key: `block-sparse softmax ${causal}`, makeShader: () => softmaxShader(causal)};
      overRows(backend, shader, layout, values.shape[0], scale, {values, probabilities});
      return probabilities;
    },
  },
  {
    kernelName: BlockSparseSoftmaxBackward,
    backendName: 'webgpu',
    kernelFunc: (call) => {
      const backend = call.backend as WebGPUBackend;
      const inputs = call.inputs as BlockSparseSoftmaxBackwardInputs;
      const {layout} = call.attrs as unknown as BlockSparseSoftmaxBackwardAttrs;
      const {shape} = inputs.probabilities;
      const dScores = backend.makeTensorInfo(shape, 'float32');
      const shader = {key: 'block-sparse softmax backward', makeShader: softmaxBackwardShader};
      overRows(backend, shader, layout, shape[0], 1, {...inputs, dScores});
      return dScores;
    },
  },
];

/** A workgroup for each row of the matrix, of every batch entry and head. */
function overRows(
  backend: WebGPUBackend,
  shader: Pick<Dispatch, 'key' | 'makeShader'>,
  layout: BlockLayout,
  batch: number,
  scale: number,
  tensors: Record<string, TensorInfo>,
): void {
  dispatch(backend, {
    ...shader,
    tensors: {...tensors, walk: walkBuffer(backend, layout, false)},
    uniforms: softmaxParams(layout, batch, scale),
    workgroups: batch * layout.heads * layout.shape[0],
  });
}

/** Fills the struct Params of block_sparse_softmax_wgsl.ts, field by field. */
function softmaxParams(layout: BlockLayout, batch: number, scale: number): ArrayBuffer {
  const {heads, rowBlocks, nnz, blockSize, shape} = layout;
  const params = new DataView(new ArrayBuffer(32));
  [batch, heads * rowBlocks, rowBlocks, nnz, ...blockSize].forEach((value, i) => {
    params.setUint32(4 * i, value, true);
  });
  params.setInt32(24, shape[1] - shape[0], true);
  params.setFloat32(28, scale, true);
  return params.buffer;
}
