/** What the WebGPU kernels of one product with butterfly matrices have in common. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {ButterflyMultiplyAttrs} from '../../src/kernel_names.js';
import type {Parts} from '../butterfly_parts.js';
import type {ButterflySizes} from '../butterfly_sizes.js';

export interface Product {
  backend: WebGPUBackend;
  attrs: ButterflyMultiplyAttrs;
  sizes: ButterflySizes;
  x: Parts;
  twiddle: Parts;
}

/** Some rows of the batch. */
export interface Rows {
  first: number;
  count: number;
}

export function makeParts({backend, sizes}: Product, shape: number[]): Parts {
  const make = () => backend.makeTensorInfo(shape, 'float32');
  return sizes.complex ? [make(), make()] : [make()];
}

export function disposeParts({backend}: Product, tensors: Parts): void {
  for (const {dataId} of tensors) backend.disposeData(dataId);
}
