/** The WebGPU kernels of a language model's loss. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {util} from '@tensorflow/tfjs-core';
import {languageModelLossKernels} from '../language_model_loss_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {sumColumns} from './column_sums.js';
import {dispatch} from './dispatch.js';
import {LOSS_THREADS, type LogitsElement, lossGradientShader, rowLossShader} from './language_model_loss_wgsl.js';

export const webgpuLanguageModelLossKernels = languageModelLossKernels('webgpu', {
  forward({logits, targets}, kernelBackend) {
    const backend = kernelBackend as WebGPUBackend;
    assertBufferFits(backend.device, 'languageModelLoss', 'logits', logits.shape);
    const [rows, columns] = logits.shape;
    const element = elementOf(columns);
    const lanes = lanesFor(columns);
    const softmaxStats = backend.makeTensorInfo([rows, 2], 'float32');
    const losses = backend.makeTensorInfo([rows, 1], 'float32');
    dispatch(backend, {
      key: `language model loss ${element} ${lanes}`,
      makeShader: () => rowLossShader(element, lanes),
      tensors: {logits, targets, softmaxStats, losses},
      uniforms: uniforms(rows, columns, 1 / rows),
      workgroups: Math.ceil((rows * lanes) / LOSS_THREADS),
    });
    const loss = sumColumns(backend, losses);
    backend.disposeData(losses.dataId);
    return [{...loss, shape: []}, softmaxStats];
  },
  backward(inputs, kernelBackend) {
    const backend = kernelBackend as WebGPUBackend;
    const [rows, columns] = inputs.logits.shape;
    const size = util.sizeFromShape(inputs.logits.shape);
    const element = elementOf(size);
    const count = element === 'vec4f' ? size / 4 : size;
    const dLogits = backend.makeTensorInfo([rows, columns], 'float32');
    dispatch(backend, {
      key: `language model loss backward ${element}`,
      makeShader: () => lossGradientShader(element),
      tensors: {...inputs, dLogits},
      uniforms: uniforms(count, columns, 1 / rows),
      workgroups: Math.ceil(count / LOSS_THREADS),
    });
    return dLogits;
  },
});

function elementOf(count: number): LogitsElement {
  return count % 4 === 0 ? 'vec4f' : 'f32';
}

/** Of short rows a workgroup takes several: an invocation has at most as many logits as there are for its row. */
function lanesFor(columns: number): number {
  return [4, 16, 64].find((lanes) => columns <= lanes ** 2) ?? LOSS_THREADS;
}

/** Fills the structs Params of language_model_loss_wgsl.ts. */
function uniforms(count: number, columns: number, factor: number): ArrayBuffer {
  const params = Uint32Array.of(count, columns, 0);
  new Float32Array(params.buffer)[2] = factor;
  return params.buffer;
}
