/**
 * WGSL of block-sparse products: one workgroup makes a tile of the output, out[row, column] = Σ left[row, inner] ·
 * right[inner, column], in chunks of the inner dimension that pass through workgroup memory (tile_wgsl.ts). Two kernels:
 *
 * - {@link sparseProductShader}: left or right is sparse. The tile lies in one row of blocks of the sparse matrix (or
 *   column, if it is transposed) and walks the live blocks of it.
 * - {@link sampledProductShader}: the output is sparse. The tile lies in one live block and walks the whole inner dimension.
 */
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';
import {type ProductTile, threadGrid} from './tile_sizes.js';
import {
  addProductFunction,
  declareAccumulators,
  declareColumnMemory,
  declareRowMemory,
  lines,
  loadColumns,
  loadColumnsTransposed,
  loadRows,
  loadRowsTransposed,
  multiplyAccumulate,
  type Source,
} from './tile_wgsl.js';

/** A matrix in a storage buffer, and how its elements lie there. */
export interface StoredMatrix {
  name: 'left' | 'right' | 'out';
  /** Whether the buffer holds the transpose of what the product calls its rows and columns. */
  transposed: boolean;
  /** Whether four neighbouring elements of a stored row can be loaded as one. */
  vectorized: boolean;
}

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

function binding({name, vectorized}: StoredMatrix, access: Binding['access']): Binding {
  return {name, access, element: vectorized ? 'vec4f' : 'f32'};
}

/**
 * WGSL struct `View`: a part of a stored matrix, in elements of its buffer: where it begins, how far its stored rows are
 * apart, and how many stored rows and columns it has. And `load_…(view, row, quad)`: four neighbouring elements of a
 * stored row, 0 outside of the view.
 */
const viewStruct = `
struct View {
  base: u32,
  stride: u32,
  rows: u32,
  columns: u32,
}`;

function loadFunction({name, vectorized}: StoredMatrix): string {
  // Without branches, because this is inlined many times, and some compilers take long over each.
  const body = vectorized
    ? `return select(vec4f(), ${name}[select(0u, (view.base + row * view.stride) / 4u + quad, inside)], inside);`
    : `let first = select(0u, view.base + row * view.stride + 4u * quad, inside);
  let last = select(0u, view.columns - 1u - 4u * quad, inside);
  return vec4f(
    select(0.0, ${name}[first], inside),
    select(0.0, ${name}[first + min(1u, last)], inside & (last >= 1u)),
    select(0.0, ${name}[first + min(2u, last)], inside & (last >= 2u)),
    select(0.0, ${name}[first + min(3u, last)], inside & (last >= 3u)));`;
  return `
fn load_${name}(view: View, row: u32, quad: u32) -> vec4f {
  let inside = (row < view.rows) & (4u * quad < view.columns);
  ${body}
}`;
}

function storeFunction({name, vectorized}: StoredMatrix): string {
  const body = vectorized
    ? `${name}[(view.base + row * view.stride) / 4u + quad] = value;`
    : `let first = view.base + row * view.stride + 4u * quad;
  for (var c = 0u; c < min(4u, view.columns - 4u * quad); c++) { ${name}[first + c] = value[c]; }`;
  return `
fn store_${name}(view: View, row: u32, quad: u32, value: vec4f) {
  if ((row >= view.rows) | (4u * quad >= view.columns)) { return; }
  ${body}
}`;
}

/** The parts that both kernels are made of. Their code has `leftView` and `rightView` of a chunk, and `outView`, in scope. */
class TileProduct {
  private readonly leftMemory;

  constructor(
    private readonly tile: ProductTile,
    private readonly left: StoredMatrix,
    private readonly right: StoredMatrix,
    private readonly out: StoredMatrix,
  ) {
    this.leftMemory = {name: 'leftMemory', quads: tile.inner / 4};
  }

  get bindings(): Binding[] {
    return [binding(this.left, 'read'), binding(this.right, 'read'), binding(this.out, 'read_write')];
  }

  get declarations(): string {
    return `
${viewStruct}
${declareRowMemory(this.tile, this.leftMemory)}
${declareColumnMemory(this.tile)}
${addProductFunction}
${loadFunction(this.left)}
${loadFunction(this.right)}
${storeFunction(this.out)}`;
  }

  get enterTile(): string {
    const {threadsAcross} = threadGrid(this.tile);
    return `
  let threadColumn = localIndex % ${threadsAcross}u;
  let threadRow = localIndex / ${threadsAcross}u;
  ${declareAccumulators(this.tile, 'sum', this.tile.threadColumns / 4)}`;
  }

  /** Adds the product of the two views to the sums. Views have local rows and columns, so that both begin at 0. */
  get addChunk(): string {
    const {tile, leftMemory} = this;
    const source = (name: string): Source => ({
      load: (row, quad) => `load_${name}(${name}View, ${row}, ${quad})`,
    });
    const innerQuads = tile.inner / 4;
    const loadLeft = this.left.transposed
      ? loadRowsTransposed(tile, leftMemory, source('left'))
      : loadRows(tile, leftMemory, source('left'), '0u', '0u');
    const loadRight = this.right.transposed
      ? loadColumnsTransposed(tile, source('right'), '0u', innerQuads, '0u')
      : loadColumns(tile, source('right'), '0u', tile.inner, tile.columns / 4);
    const arrangement = this.right.transposed ? 'transposed' : 'plain';
    return `
    workgroupBarrier();
    ${loadLeft}
    ${loadRight}
    workgroupBarrier();
    ${multiplyAccumulate(tile, 'sum', leftMemory, '0u', arrangement, innerQuads, tile.threadColumns / 4)}`;
  }

  get storeTile(): string {
    const {tile} = this;
    const {threadsAcross} = threadGrid(tile);
    return lines(tile.threadRows, (i) =>
      lines(
        tile.threadColumns / 4,
        (n) =>
          `store_out(outView, threadRow * ${tile.threadRows}u + ${i}u, ${n * threadsAcross}u + threadColumn, sum${i}_${n});`,
      ),
    );
  }
}

/** A view of stored[firstRow.., firstColumn..] of a matrix, given by its rows and columns as the product calls them. */
function view(
  {transposed}: StoredMatrix,
  base: string,
  stride: string,
  [firstRow, firstColumn]: [string, string],
  [rows, columns]: [string, string],
): string {
  return transposed
    ? `View(${base} + (${firstColumn}) * ${stride} + ${firstRow}, ${stride}, ${columns}, ${rows})`
    : `View(${base} + (${firstRow}) * ${stride} + ${firstColumn}, ${stride}, ${rows}, ${columns})`;
}

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
${product.declarations}
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
  ${product.storeTile}`,
)}`;
  return makeShader([...product.bindings, {name: 'walk', access: 'read', element: 'i32'}], paramsStruct, body);
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
${product.declarations}
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
  ${product.storeTile}`,
)}`;
  return makeShader([...product.bindings, {name: 'places', access: 'read', element: 'i32'}], paramsStruct, body);
}
