/** The gradient of a twiddle on WebGPU, from each factor's inputs and the gradients of its outputs, of some rows at a time. */
import {type TensorInfo, util} from '@tensorflow/tfjs-core';
import {named, type Parts} from '../butterfly_parts.js';
import {disposeParts, makeParts, type Product} from './butterfly_product.js';
import {dispatch} from './dispatch.js';
import {chunkSumShader, MATRICES_ACROSS, twiddleGradientShader} from './twiddle_gradient_wgsl.js';

/** So many workgroups keep a GPU busy. */
const ENOUGH_WORKGROUPS = 256;
/** Of fewer rows than this in each chunk, a second dispatch takes longer than it saves. */
const LEAST_CHUNK_ROWS = 1024;

export class TwiddleGradient {
  private readonly matrices: number;
  /** Rows whose sum one workgroup makes, and how many such chunks all rows have. */
  private readonly chunkRows: number;
  private readonly chunks: number;
  private nextChunk = 0;
  private readonly sums: Parts;

  /** @param mostRows rows come in pieces of so many, of which only the last may be smaller. */
  constructor(
    private readonly product: Product,
    mostRows: number,
  ) {
    const {sizes, twiddle} = product;
    this.matrices = util.sizeFromShape(twiddle[0].shape) / 4;
    const wanted = Math.ceil(ENOUGH_WORKGROUPS / this.groups);
    this.chunkRows = Math.ceil(mostRows / Math.min(wanted, Math.ceil(mostRows / LEAST_CHUNK_ROWS)));
    this.chunks =
      Math.floor(sizes.batch / mostRows) * Math.ceil(mostRows / this.chunkRows) +
      Math.ceil((sizes.batch % mostRows) / this.chunkRows);
    this.sums = makeParts(product, this.chunks === 1 ? twiddle[0].shape : [this.chunks, ...twiddle[0].shape]);
  }

  private get groups(): number {
    return Math.ceil(this.matrices / MATRICES_ACROSS);
  }

  /** Takes the next rows; both tensors are [factors of a stack, rows, stacks, n], or [.., n, 2] of complex numbers. */
  addRows(count: number, xs: TensorInfo, gradients: TensorInfo): void {
    const {backend, attrs, sizes} = this.product;
    const {stacks, blocks, factors, complex} = sizes;
    const chunks = Math.ceil(count / this.chunkRows);
    const variant = {complex, transposed: attrs.transpose, conjugated: attrs.conjugate && complex};
    dispatch(backend, {
      key: `butterfly twiddle gradient ${JSON.stringify(variant)}`,
      makeShader: () => twiddleGradientShader(variant),
      tensors: {xs, gradients, ...named('sums', this.sums)},
      uniforms: Uint32Array.of(
        count,
        stacks,
        factors,
        blocks * factors,
        Number(attrs.increasingStride),
        this.chunkRows,
        chunks,
        this.nextChunk,
      ).buffer,
      workgroups: this.groups * chunks,
    });
    this.nextChunk += chunks;
  }

  /** The sum over all rows, shaped as the twiddle; to be asked for once. */
  total(): Parts {
    if (this.chunks === 1) return this.sums;
    const {backend, twiddle} = this.product;
    const totals = makeParts(this.product, twiddle[0].shape);
    totals.forEach((total, part) => {
      dispatch(backend, {
        key: 'butterfly chunk sum',
        makeShader: chunkSumShader,
        tensors: {sums: this.sums[part], total},
        uniforms: Uint32Array.of(this.matrices, this.chunks).buffer,
        workgroups: this.groups,
      });
    });
    disposeParts(this.product, this.sums);
    return totals;
  }
}
