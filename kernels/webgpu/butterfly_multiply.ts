/** The WebGPU kernels of products with butterfly matrices. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {KernelFunc, TensorInfo} from '@tensorflow/tfjs-core';
import type {
  ButterflyMultiplyAttrs,
  ButterflyMultiplyBackwardInputs,
  ButterflyMultiplyInputs,
} from '../../src/kernel_names.js';
import {butterflyKernels} from '../butterfly_kernels.js';
import {addStacks, type Parts, parts} from '../butterfly_parts.js';
import {butterflySizes} from '../butterfly_sizes.js';
import {assertBufferFits} from './buffer_limits.js';
import {makeParts, type Product, type Rows} from './butterfly_product.js';
import {type Columns, sweep, sweepThereAndBack} from './butterfly_sweep.js';
import {TwiddleGradient} from './twiddle_gradient.js';

/**
 * What the backward pass keeps of all factors' inputs and of their gradients at a time, each. As much as a buffer may hold
 * by the default limits, and as 256 rows of 8192 elements take (104 MiB): a piece of the batch that uses less leaves a GPU
 * partly idle, and every piece costs two dispatches.
 */
const SAVED_BYTES = 128 * 2 ** 20;

type KernelCall = Parameters<KernelFunc>[0];

function productOf(call: KernelCall): Product {
  const backend = call.backend as WebGPUBackend;
  const inputs = call.inputs as ButterflyMultiplyInputs;
  const attrs = call.attrs as unknown as ButterflyMultiplyAttrs;
  const sizes = butterflySizes(inputs, attrs);
  const {batch, stacks, n, outputSize} = sizes;
  for (const name of ['x', 'twiddle'] as const) {
    assertBufferFits(backend.device, 'butterflyMultiply', name, inputs[name].shape);
  }
  assertBufferFits(backend.device, 'butterflyMultiply', 'the output', [batch, outputSize]);
  if (stacks > 1) assertBufferFits(backend.device, 'butterflyMultiply', 'what the stacks put out', [batch, stacks * n]);
  return {backend, attrs, sizes, x: parts(inputs.x, inputs.xImag), twiddle: parts(inputs.twiddle, inputs.twiddleImag)};
}

function butterflyMultiply(call: KernelCall): Parts {
  const product = productOf(call);
  const {attrs, sizes, x} = product;
  const rows = {first: 0, count: sizes.batch};
  return withOutput(product, sizes.outputSize, attrs.transpose, (target) =>
    sweep(product, rows, {transposed: attrs.transpose, conjugated: attrs.conjugate, source: x, target}),
  );
}

function butterflyMultiplyBackward(call: KernelCall): Parts {
  const product = productOf(call);
  const {backend, sizes, attrs, x} = product;
  const {dy, dyImag} = call.inputs as ButterflyMultiplyBackwardInputs;
  const forwards = {transposed: attrs.transpose, conjugated: attrs.conjugate, source: x};
  const backwards = {transposed: !attrs.transpose, conjugated: !attrs.conjugate, source: parts(dy, dyImag)};
  const pieces = piecesOf(product);
  const twiddleGradient = new TwiddleGradient(product, pieces[0].count);
  const dx = withOutput(product, sizes.inputSize, backwards.transposed, (target) => {
    for (const rows of pieces) {
      const [xs, gradients] = [makeSaves(product, rows), makeSaves(product, rows)];
      sweepThereAndBack(product, rows, {...forwards, saves: xs}, {...backwards, saves: gradients, target});
      twiddleGradient.addRows(rows.count, xs, gradients);
      for (const {dataId} of [xs, gradients]) backend.disposeData(dataId);
    }
  });
  return [...dx, ...twiddleGradient.total()];
}

/** Pieces of the batch, of one size but for the last, whose saved inputs fit into a buffer. */
function piecesOf({backend, sizes}: Product): Rows[] {
  const {batch, stacks, blocks, factors, n, complex} = sizes;
  const bytesPerRow = (complex ? 8 : 4) * blocks * factors * stacks * n;
  const {maxStorageBufferBindingSize, maxBufferSize} = backend.device.limits;
  const bytes = Math.min(SAVED_BYTES, maxStorageBufferBindingSize, maxBufferSize);
  const most = Math.max(1, Math.floor(bytes / bytesPerRow));
  const count = Math.ceil(batch / Math.ceil(batch / most));
  return Array.from({length: Math.ceil(batch / count)}, (_, i) => {
    const first = i * count;
    return {first, count: Math.min(count, batch - first)};
  });
}

/** Room for each factor's inputs. */
function makeSaves({backend, sizes}: Product, rows: Rows): TensorInfo {
  const {stacks, blocks, factors, n, complex} = sizes;
  const shape = [blocks * factors, rows.count, stacks, n];
  return backend.makeTensorInfo(complex ? [...shape, 2] : shape, 'float32');
}

/** Makes [batch, size] of what `run` writes. Outputs that several stacks share are added up after it. */
function withOutput(product: Product, size: number, isShared: boolean, run: (target: Columns) => void): Parts {
  const {batch, stacks, n} = product.sizes;
  const sumsStacks = isShared && stacks > 1;
  const width = sumsStacks ? stacks * n : size;
  const tensors = makeParts(product, [batch, width]);
  run({tensors, width});
  return sumsStacks ? addStacks(tensors, product.sizes, size) : tensors;
}

export const webgpuButterflyKernels = butterflyKernels('webgpu', {
  forward: butterflyMultiply,
  backward: butterflyMultiplyBackward,
});
