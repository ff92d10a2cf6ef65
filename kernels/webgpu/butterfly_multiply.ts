/** The WebGPU kernels of products with butterfly matrices. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {type KernelFunc, util} from '@tensorflow/tfjs-core';
import type {
  ButterflyMultiplyAttrs,
  ButterflyMultiplyBackwardInputs,
  ButterflyMultiplyInputs,
} from '../../src/kernel_names.js';
import {butterflyKernels} from '../butterfly_kernels.js';
import {addStacks, named, type PartedRows, type Parts, parts} from '../butterfly_parts.js';
import {type ButterflySizes, butterflySizes, factorSteps} from '../butterfly_sizes.js';
import {assertBufferFits} from './buffer_limits.js';
import {type ButterflyPass, butterflyPasses} from './butterfly_passes.js';
import {
  chunkSumShader,
  GRADIENT_THREADS,
  SWEEP_THREADS,
  type SweepVariant,
  sweepShader,
  twiddleGradientShader,
} from './butterfly_wgsl.js';
import {dispatch} from './dispatch.js';

/** So many workgroups keep a GPU busy; only then do workgroups take several rows. */
const ENOUGH_WORKGROUPS = 512;
/** So many invocations keep a GPU busy with the twiddle's gradient. */
const ENOUGH_INVOCATIONS = 65536;
/** What the backward pass keeps of all factors' inputs and gradients at a time, each. */
const SAVED_BYTES = 64 * 2 ** 20;
/** An invocation adds up at least so many rows, so that the chunks' sums stay small beside what is summed. */
const LEAST_CHUNK_ROWS = 16;
/** Of workgroup memory: all that the default limits give, and little enough that a GPU has room for several workgroups. */
const TILE_BYTES = 16384;

interface Product {
  backend: WebGPUBackend;
  attrs: ButterflyMultiplyAttrs;
  sizes: ButterflySizes;
  x: Parts;
  twiddle: Parts;
}

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
  const {transpose, conjugate} = product.attrs;
  const direction = {reversed: transpose, conjugated: conjugate};
  const rows = {first: 0, count: product.sizes.batch};
  return withOutput(product, product.sizes.outputSize, transpose, (target) =>
    sweep(product, direction, rows, product.x, {target}),
  );
}

function butterflyMultiplyBackward(call: KernelCall): Parts {
  const product = productOf(call);
  const {backend, sizes, attrs} = product;
  const {dy, dyImag} = call.inputs as ButterflyMultiplyBackwardInputs;
  const forwards = {reversed: attrs.transpose, conjugated: attrs.conjugate};
  const backwards = {reversed: !attrs.transpose, conjugated: !attrs.conjugate};
  const pieces = rowsAtATime(product);
  const sums = makeChunkSums(product, pieces[0].count);
  let chunk = 0;
  const dx = withOutput(product, sizes.inputSize, backwards.reversed, (target) => {
    for (const rows of pieces) {
      const xs = makeParts(product, [sizes.blocks * sizes.factors, rows.count * sizes.stacks, sizes.n]);
      const gradients = makeParts(product, xs[0].shape);
      sweep(product, forwards, rows, product.x, {saves: xs});
      sweep(product, backwards, rows, parts(dy, dyImag), {target, saves: gradients});
      chunk = sumChunks(product, rows, chunk, sums, xs, gradients);
      disposeParts(backend, xs);
      disposeParts(backend, gradients);
    }
  });
  return [...dx, ...totalOf(product, sums)];
}

interface Rows {
  first: number;
  count: number;
}

/** Parts of the batch, whose saved inputs fit into a buffer. */
function rowsAtATime({backend, sizes}: Product): Rows[] {
  const {batch, stacks, blocks, factors, n} = sizes;
  const bytesPerRow = 4 * blocks * factors * stacks * n;
  const {maxStorageBufferBindingSize, maxBufferSize} = backend.device.limits;
  const bytes = Math.min(SAVED_BYTES, maxStorageBufferBindingSize, maxBufferSize);
  const atATime = Math.max(1, Math.floor(bytes / bytesPerRow));
  return Array.from({length: Math.ceil(batch / atATime)}, (_, i) => {
    const first = i * atATime;
    return {first, count: Math.min(atATime, batch - first)};
  });
}

function makeParts({backend, sizes}: Product, shape: number[]): Parts {
  const make = () => backend.makeTensorInfo(shape, 'float32');
  return sizes.complex ? [make(), make()] : [make()];
}

function disposeParts(backend: WebGPUBackend, tensors: Parts): void {
  for (const {dataId} of tensors) backend.disposeData(dataId);
}

/** Makes [batch, size] of what `run` writes. Outputs that several stacks share are added up after it. */
function withOutput(product: Product, size: number, isShared: boolean, run: (target: PartedRows) => void): Parts {
  const {batch, stacks, n} = product.sizes;
  if (!isShared || stacks === 1) {
    const tensors = makeParts(product, [batch, size]);
    run({tensors, width: size, isSplit: !isShared});
    return tensors;
  }
  const tensors = makeParts(product, [batch, stacks * n]);
  run({tensors, width: stacks * n, isSplit: true});
  return addStacks(tensors, product.sizes, size);
}

interface Direction {
  /** From the last factor to the first, with their transposes. */
  reversed: boolean;
  conjugated: boolean;
}

/** Takes rows of `source` through all factors, in as few passes as workgroup memory allows. */
function sweep(
  product: Product,
  {reversed, conjugated}: Direction,
  rows: Rows,
  source: Parts,
  {target, saves}: {target?: PartedRows; saves?: Parts},
): void {
  const {backend, attrs, sizes, twiddle} = product;
  const {stacks, n, complex} = sizes;
  const tileBits = Math.log2(TILE_BYTES / (complex ? 8 : 4));
  const passes = butterflyPasses(factorSteps(sizes, {...attrs, transpose: reversed}), tileBits);
  const width = source[0].shape[1];
  let from: PartedRows = {tensors: source, width, isSplit: reversed};
  passes.forEach((pass, i) => {
    const isLast = i === passes.length - 1;
    const between = {tensors: [], width: stacks * n, isSplit: true};
    const to = isLast ? target : {...between, tensors: makeParts(product, [sizes.batch, stacks * n])};
    const rowBits = rowBitsOf(sizes, rows.count, pass, tileBits);
    const variant: SweepVariant = {
      complex,
      transposed: reversed,
      conjugated: conjugated && complex,
      saves: saves !== undefined,
      stores: to !== undefined,
      tileBits: pass.spanBits + pass.laneBits + rowBits,
    };
    dispatch(backend, {
      key: `butterfly sweep ${JSON.stringify(variant)}`,
      makeShader: () => sweepShader(variant),
      tensors: {
        ...named('source', from.tensors),
        ...named('twiddle', twiddle),
        ...named('output', to?.tensors ?? []),
        ...named('saves', saves ?? []),
      },
      uniforms: sweepParams(product, reversed, rows, pass, rowBits, from, to ?? between),
      workgroups: (Math.ceil(rows.count / 2 ** rowBits) * stacks * n) / 2 ** (pass.spanBits + pass.laneBits),
    });
    if (i > 0) disposeParts(backend, from.tensors);
    if (to) from = to;
  });
}

/** log2 of the rows that a workgroup takes: as many as it has room for, as long as there are enough workgroups. */
function rowBitsOf({n, stacks}: ButterflySizes, rows: number, pass: ButterflyPass, tileBits: number): number {
  const rowTileBits = pass.spanBits + pass.laneBits;
  const oneRowEach = (rows * stacks * n) / 2 ** rowTileBits;
  // A workgroup of few pairs would leave invocations without work.
  const least = Math.max(0, Math.log2(SWEEP_THREADS) + 1 - rowTileBits);
  const wanted = Math.max(least, Math.floor(Math.log2(Math.max(1, oneRowEach / ENOUGH_WORKGROUPS))));
  return Math.min(wanted, tileBits - rowTileBits, Math.ceil(Math.log2(rows)));
}

/** Fills the struct Params of sweepShader, field by field. */
function sweepParams(
  {attrs, sizes}: Product,
  reversed: boolean,
  rows: Rows,
  pass: ButterflyPass,
  rowBits: number,
  source: PartedRows,
  target: PartedRows,
): ArrayBuffer {
  const {stacks, blocks, factors} = sizes;
  return Uint32Array.of(
    rows.count,
    rows.first,
    stacks,
    factors,
    blocks * factors,
    pass.firstStep,
    pass.endStep,
    Number(reversed),
    Number(attrs.increasingStride),
    pass.lowBit,
    pass.spanBits,
    pass.laneBits,
    rowBits,
    source.width,
    Number(source.isSplit),
    target.width,
    Number(target.isSplit),
  ).buffer;
}

/** Sums over chunks of rows of what each row adds to the twiddle's gradient; they are then added up. */
interface ChunkSums {
  tensors: Parts;
  matrices: number;
  chunkRows: number;
  chunks: number;
}

/** @param mostRows how many rows come at a time. */
function makeChunkSums(product: Product, mostRows: number): ChunkSums {
  const {batch} = product.sizes;
  const matrices = util.sizeFromShape(product.twiddle[0].shape) / 4;
  const wanted = Math.ceil(ENOUGH_INVOCATIONS / matrices);
  const chunkRows = Math.ceil(mostRows / Math.min(wanted, Math.ceil(mostRows / LEAST_CHUNK_ROWS)));
  const chunks =
    Math.floor(batch / mostRows) * Math.ceil(mostRows / chunkRows) + Math.ceil((batch % mostRows) / chunkRows);
  return {tensors: makeParts(product, [chunks, matrices * 4]), matrices, chunkRows, chunks};
}

/** Sums up the chunks of these rows, of which each factor's inputs and the gradients of its outputs were saved. */
function sumChunks(
  product: Product,
  rows: Rows,
  firstChunk: number,
  sums: ChunkSums,
  xs: Parts,
  gradients: Parts,
): number {
  const {backend, attrs, sizes} = product;
  const {stacks, blocks, factors, complex} = sizes;
  const {tensors, matrices, chunkRows} = sums;
  const chunks = Math.ceil(rows.count / chunkRows);
  const variant = {complex, transposed: attrs.transpose, conjugated: attrs.conjugate && complex};
  dispatch(backend, {
    key: `butterfly twiddle gradient ${JSON.stringify(variant)}`,
    makeShader: () => twiddleGradientShader(variant),
    tensors: {...named('xs', xs), ...named('gradients', gradients), ...named('sums', tensors)},
    uniforms: Uint32Array.of(
      rows.count,
      stacks,
      factors,
      blocks * factors,
      Number(attrs.increasingStride),
      chunkRows,
      chunks,
      firstChunk,
    ).buffer,
    workgroups: Math.ceil((matrices * chunks) / GRADIENT_THREADS),
  });
  return firstChunk + chunks;
}

function totalOf({backend, twiddle}: Product, {tensors, matrices, chunks}: ChunkSums): Parts {
  return tensors.map((sums) => {
    const total = backend.makeTensorInfo(twiddle[0].shape, 'float32');
    dispatch(backend, {
      key: 'butterfly chunk sum',
      makeShader: chunkSumShader,
      tensors: {sums, total},
      uniforms: Uint32Array.of(matrices, chunks).buffer,
      workgroups: Math.ceil(matrices / GRADIENT_THREADS),
    });
    backend.disposeData(sums.dataId);
    return total;
  });
}

export const webgpuButterflyKernels = butterflyKernels('webgpu', {
  forward: butterflyMultiply,
  backward: butterflyMultiplyBackward,
});
