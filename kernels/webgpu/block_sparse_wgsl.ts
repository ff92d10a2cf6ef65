/**
 * WGSL of block-sparse products: one workgroup makes a tile of the output, out[row, column] = Σ left[row, inner] ·
 * right[inner, column], in chunks of the inner dimension that pass through workgroup memory (tile_wgsl.ts). Two kernels:
 *
 * - {@link sparseProductShader}: left or right is sparse. The tile lies in one row of blocks of the sparse matrix (or
 *   column, if it is transposed) and walks the live blocks of it.
 * - {@link sampledProductShader}: the output is sparse. The tile lies in one live block and walks the whole inner dimension.
 */
import {declareProducts, type StoredMatrix, TileProduct, view} from './matrix_tiles_wgsl.js';
import {entryPoint, makeShader, type Shader} from './shader.js';
import {type ProductTile, threadGrid} from './tile_sizes.js';

/** Filled by `productParams` in block_sparse_mat_mul.ts. */
const paramsStruct = `
struct Params {
  batch: u32,
  heads: u32,
  // Of the output, and between them.
  rows: u32,
  inner: u32,
  columns: u32,
  // Live blocks of all heads, and rows (or columns) of blocks of one head.
  nnz: u32,
  outerBlocks: u32,
  // Whether the whole batch shares the values of the sparse operand, or adds up its products.
  sharesValues: u32,
  // Tiles along the side of the output that no block bounds.
  freeTiles: u32,
}`;

/** What {@link sparseProductShader} is compiled for. */
export interface SparseProductVariant {
  /** Which operand is sparse. */
  sparse: 'left' | 'right';
  left: StoredMatrix;
  right: StoredMatrix;
  out: StoredMatrix;
  /** Elements of a block along the output, and along the inner dimension. */
  outerSize: number;
  innerSize: number;
}

/**
 * `walk` holds, as `walkTable` in layout_tables.ts makes it, the offsets of each row of blocks and then two numbers per
 * live block: its own, and that of the inner block it meets.
 */
export function sparseProductShader(variant: SparseProductVariant, tile: ProductTile): Shader {
  const {sparse, left, right, out, outerSize, innerSize} = variant;
  const product = new TileProduct(tile, left, right, out);
  const declared = declareProducts(tile, [product]);
  const {threads} = threadGrid(tile);
  const [outerTile, freeTile] = sparse === 'left' ? [tile.rows, tile.columns] : [tile.columns, tile.rows];
  const free = sparse === 'left' ? 'columns' : 'rows';
  const parts = Math.ceil(outerSize / outerTile);
  const sides = (ofOuter: string, other: string): [string, string] =>
    sparse === 'left' ? [ofOuter, other] : [other, ofOuter];
  const [sparseMatrix, denseMatrix] = sparse === 'left' ? [left, right] : [right, left];
  // A block is stored as the layout has it: [outer, inner] unless the product transposes it.
  const blockStride = (sparse === 'left') === sparseMatrix.transposed ? outerSize : innerSize;
  const denseStride = denseMatrix.transposed === (sparse === 'left') ? 'params.inner' : `params.${free}`;
  const sparseView = view(
    sparseMatrix,
    `valuesBase + block * ${outerSize * innerSize}u`,
    `${blockStride}u`,
    sides('outerStart', 'inner'),
    sides(`${outerSize}u - outerStart`, 'innerCount'),
  );
  const denseView = view(
    denseMatrix,
    `matrix * params.inner * params.${free}`,
    denseStride,
    // The inner dimension comes first on the right and second on the left.
    sparse === 'left'
      ? [`innerBlock * ${innerSize}u + inner`, 'freeStart']
      : ['freeStart', `innerBlock * ${innerSize}u + inner`],
    sparse === 'left' ? ['innerCount', `params.${free} - freeStart`] : [`params.${free} - freeStart`, 'innerCount'],
  );
  const outView = view(
    out,
    'matrix * params.rows * params.columns',
    'params.columns',
    sides(`outerBlock * ${outerSize}u + outerStart`, 'freeStart'),
    sides(`${outerSize}u - outerStart`, `params.${free} - freeStart`),
  );
  const [leftView, rightView] = sparse === 'left' ? [sparseView, denseView] : [denseView, sparseView];
  const body = `
${declared.code}
${entryPoint(
  threads,
  `
  let outerTiles = params.outerBlocks * ${parts}u;
  let matrix = workgroup / (outerTiles * params.freeTiles);
  if (matrix >= params.batch * params.heads) { return; }
  // Neighbouring workgroups read the same part of the dense matrix.
  let outerBlock = workgroup % outerTiles / ${parts}u;
  let outerStart = workgroup % ${parts}u * ${outerTile}u;
  let freeStart = workgroup / outerTiles % params.freeTiles * ${freeTile}u;
  let head = matrix % params.heads;
  let valuesBase = select(matrix / params.heads, 0u, params.sharesValues == 1u) * params.nnz * ${outerSize * innerSize}u;
  let outView = ${outView};
  ${product.enterTile}

  let list = head * params.outerBlocks + outerBlock;
  let firstEntry = params.heads * params.outerBlocks + 1u;
  for (var at = u32(walk[list]); at < u32(walk[list + 1u]); at++) {
    let block = u32(walk[firstEntry + 2u * at]);
    let innerBlock = u32(walk[firstEntry + 2u * at + 1u]);
    for (var inner = 0u; inner < ${innerSize}u; inner += ${tile.inner}u) {
      let innerCount = min(${tile.inner}u, ${innerSize}u - inner);
      let leftView = ${leftView};
      let rightView = ${rightView};
      ${product.addChunk}
    }
  }
  ${product.finishSums}
  ${product.storeTile}`,
)}`;
  return makeShader([...declared.bindings, {name: 'walk', access: 'read', element: 'i32'}], paramsStruct, body);
}

/** What {@link sampledProductShader} is compiled for. */
export interface SampledProductVariant {
  left: StoredMatrix;
  right: StoredMatrix;
  out: StoredMatrix;
  /** Rows and columns of a block. */
  blockSize: readonly [number, number];
}

/** `places` holds, as `placeTable` in layout_tables.ts makes it, (row, column, head) of each live block. */
export function sampledProductShader(variant: SampledProductVariant, tile: ProductTile): Shader {
  const {left, right, out, blockSize} = variant;
  const [rowSize, columnSize] = blockSize;
  const product = new TileProduct(tile, left, right, out);
  const declared = declareProducts(tile, [product]);
  const {threads} = threadGrid(tile);
  const [partsDown, partsAcross] = [Math.ceil(rowSize / tile.rows), Math.ceil(columnSize / tile.columns)];
  const parts = partsDown * partsAcross;
  const leftView = view(
    left,
    'matrix * params.rows * params.inner',
    left.transposed ? 'params.rows' : 'params.inner',
    [`blockRow * ${rowSize}u + rowStart`, 'inner'],
    [`${rowSize}u - rowStart`, 'params.inner - inner'],
  );
  const rightView = view(
    right,
    'matrix * params.inner * params.columns',
    right.transposed ? 'params.inner' : 'params.columns',
    ['inner', `blockColumn * ${columnSize}u + columnStart`],
    ['params.inner - inner', `${columnSize}u - columnStart`],
  );
  const outView = view(
    out,
    `(firstEntry * params.nnz + block) * ${rowSize * columnSize}u`,
    `${columnSize}u`,
    ['rowStart', 'columnStart'],
    [`${rowSize}u - rowStart`, `${columnSize}u - columnStart`],
  );
  const body = `
${declared.code}
${entryPoint(
  threads,
  `
  let block = workgroup / ${parts}u % params.nnz;
  let firstEntry = workgroup / ${parts}u / params.nnz;
  // The sum over the batch, or one entry of it.
  let endEntry = select(firstEntry + 1u, params.batch, params.sharesValues == 1u);
  if (firstEntry >= select(params.batch, 1u, params.sharesValues == 1u)) { return; }
  let rowStart = workgroup % ${parts}u / ${partsAcross}u * ${tile.rows}u;
  let columnStart = workgroup % ${partsAcross}u * ${tile.columns}u;
  let blockRow = u32(places[3u * block]);
  let blockColumn = u32(places[3u * block + 1u]);
  let head = u32(places[3u * block + 2u]);
  let outView = ${outView};
  ${product.enterTile}

  for (var entry = firstEntry; entry < endEntry; entry++) {
    let matrix = entry * params.heads + head;
    for (var inner = 0u; inner < params.inner; inner += ${tile.inner}u) {
      let leftView = ${leftView};
      let rightView = ${rightView};
      ${product.addChunk}
    }
  }
  ${product.finishSums}
  ${product.storeTile}`,
)}`;
  return makeShader([...declared.bindings, {name: 'places', access: 'read', element: 'i32'}], paramsStruct, body);
}
