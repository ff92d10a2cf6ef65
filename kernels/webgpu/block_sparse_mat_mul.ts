/** WebGPU kernel of block-sparse products: which shader a call needs, over which matrices. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {type KernelConfig, type TensorInfo, util} from '@tensorflow/tfjs-core';
import {BlockSparseMatMul, type BlockSparseMatMulAttrs, type BlockSparseMatMulInputs} from '../../src/kernel_names.js';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {type BlockSparseSizes, blockSparseSizes, productShape, swapIf} from '../block_sparse_sizes.js';
import {placeTable, walkTable} from '../layout_tables.js';
import {type SparseProductVariant, sampledProductShader, sparseProductShader} from './block_sparse_wgsl.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import type {StoredMatrix} from './matrix_tiles_wgsl.js';
import {chooseProductTile} from './tile_sizes.js';

export const webgpuBlockSparseMatMul: KernelConfig = {
  kernelName: BlockSparseMatMul,
  backendName: 'webgpu',
  kernelFunc: (call) => {
    const backend = call.backend as WebGPUBackend;
    const inputs = call.inputs as BlockSparseMatMulInputs;
    const attrs = call.attrs as unknown as BlockSparseMatMulAttrs;
    const sizes = blockSparseSizes(inputs, attrs);
    const shape = productShape(sizes, attrs);
    for (const [name, matrix] of [
      ['a', inputs.a.shape],
      ['b', inputs.b.shape],
      ['the product', shape],
    ] as const) {
      assertBufferFits(backend.device, 'blockSparseMatMul', name, matrix);
    }
    // GPU kernels cannot bind empty buffers, and a sum of nothing is 0.
    const isEmpty = [inputs.a.shape, inputs.b.shape, shape].some((each) => util.sizeFromShape(each) === 0);
    if (isEmpty) return backend.makeTensorInfo(shape, 'float32', new Float32Array(util.sizeFromShape(shape)));
    const product = backend.makeTensorInfo(shape, 'float32');
    const run = attrs.mode === 'sdd' ? sampledProduct : sparseProduct;
    run(backend, inputs, attrs, sizes, product);
    return product;
  },
};

/** Rows of a buffer can be read four elements at a time if they, and the blocks along them, are whole fours. */
function stored(
  name: StoredMatrix['name'],
  {shape}: TensorInfo,
  transposed: boolean,
  alongRows: number[],
): StoredMatrix {
  const vectorized = [shape[shape.length - 1], ...alongRows].every((elements) => elements % 4 === 0);
  return {name, transposed, vectorized};
}

function sparseProduct(
  backend: WebGPUBackend,
  {a, b}: BlockSparseMatMulInputs,
  {mode, layout, transposeA, transposeB}: BlockSparseMatMulAttrs,
  sizes: BlockSparseSizes,
  product: TensorInfo,
): void {
  const sparseLeft = mode === 'dsd';
  // The walk goes along the rows of the sparse matrix, or down its columns, as the output does.
  const walksColumns = sparseLeft ? transposeA : !transposeB;
  const [outerSize, innerSize] = swapIf(walksColumns, layout.blockSize);
  const sparse = {values: sparseLeft ? a : b, transposed: sparseLeft ? transposeA : transposeB};
  const dense = {matrix: sparseLeft ? b : a, transposed: sparseLeft ? transposeB : transposeA};
  // Where the dense matrix is stored with the inner dimension along its rows, blocks cut these.
  const innerAlongRows = dense.transposed === sparseLeft;
  const [sparseName, denseName] = sparseLeft ? (['left', 'right'] as const) : (['right', 'left'] as const);
  const sparseMatrix = stored(sparseName, sparse.values, sparse.transposed, []);
  const denseMatrix = stored(denseName, dense.matrix, dense.transposed, innerAlongRows ? [innerSize] : []);
  const variant: SparseProductVariant = {
    sparse: sparseName,
    left: sparseLeft ? sparseMatrix : denseMatrix,
    right: sparseLeft ? denseMatrix : sparseMatrix,
    out: stored('out', product, false, sparseLeft ? [] : [outerSize]),
    outerSize,
    innerSize,
  };
  const tile = chooseProductTile(backend.device, sparseLeft ? {rows: outerSize} : {columns: outerSize});
  const [outerTile, freeTile] = sparseLeft ? [tile.rows, tile.columns] : [tile.columns, tile.rows];
  const outerBlocks = (sparseLeft ? sizes.rows : sizes.columns) / outerSize;
  const freeTiles = Math.ceil((sparseLeft ? sizes.columns : sizes.rows) / freeTile);
  dispatch(backend, {
    key: `sparse product ${JSON.stringify([variant, tile])}`,
    makeShader: () => sparseProductShader(variant, tile),
    tensors: {left: a, right: b, out: product, walk: walkBuffer(backend, layout, walksColumns)},
    uniforms: productParams(sizes, layout.nnz, outerBlocks, sparse.values.shape[0] === 1, freeTiles),
    workgroups: outerBlocks * Math.ceil(outerSize / outerTile) * freeTiles * sizes.batch * sizes.heads,
  });
}

/** The table of walkTable on the backend. */
export function walkBuffer(backend: WebGPUBackend, layout: BlockLayout, walksColumns: boolean): TensorInfo {
  return layout.indexBuffer(backend, `walk ${walksColumns ? 'columns' : 'rows'}`, () => {
    const values = walkTable(layout, walksColumns);
    return {shape: [values.length], values};
  });
}

function sampledProduct(
  backend: WebGPUBackend,
  {a, b}: BlockSparseMatMulInputs,
  {layout, transposeA, transposeB, sumBatch}: BlockSparseMatMulAttrs,
  sizes: BlockSparseSizes,
  product: TensorInfo,
): void {
  const [rowSize, columnSize] = layout.blockSize;
  const variant = {
    left: stored('left', a, transposeA, transposeA ? [rowSize] : []),
    right: stored('right', b, transposeB, transposeB ? [] : [columnSize]),
    out: stored('out', product, false, []),
    blockSize: layout.blockSize,
  };
  const tile = chooseProductTile(backend.device, {rows: rowSize, columns: columnSize});
  const tilesPerBlock = Math.ceil(rowSize / tile.rows) * Math.ceil(columnSize / tile.columns);
  const places = layout.indexBuffer(backend, 'places', () => ({shape: [layout.nnz, 3], values: placeTable(layout)}));
  dispatch(backend, {
    key: `sampled product ${JSON.stringify([variant, tile])}`,
    makeShader: () => sampledProductShader(variant, tile),
    tensors: {left: a, right: b, out: product, places},
    uniforms: productParams(sizes, layout.nnz, 0, sumBatch, 0),
    workgroups: layout.nnz * tilesPerBlock * (sumBatch ? 1 : sizes.batch),
  });
}

/** Fills the struct Params of block_sparse_wgsl.ts, field by field. */
function productParams(
  {batch, heads, rows, inner, columns}: BlockSparseSizes,
  nnz: number,
  outerBlocks: number,
  sharesValues: boolean,
  freeTiles: number,
): ArrayBuffer {
  return Uint32Array.of(batch, heads, rows, inner, columns, nnz, outerBlocks, Number(sharesValues), freeTiles).buffer;
}
