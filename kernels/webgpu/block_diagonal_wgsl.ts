/**
 * WGSL of products with block-diagonal matrices, of their weights' gradients, and of both gradients of a product at once:
 * a workgroup makes a tile of what one block gives. Interleaved elements are read and written where they are, a number of
 * blocks apart.
 */
import type {BlockOrder} from '../../src/kernel_names.js';
import {declareProducts, type StoredMatrix, TileProduct, tilesAlong, view} from './matrix_tiles_wgsl.js';
import {entryPoint, makeShader, type Shader} from './shader.js';
import {type ProductTile, threadGrid} from './tile_sizes.js';

/** Filled by `blockDiagonalParams` in block_diagonal.ts. */
const paramsStruct = `
struct Params {
  batch: u32,
  blocks: u32,
  // Elements of a block in x and in the product.
  inner: u32,
  outer: u32,
}`;

/** What the shaders are compiled for. */
export interface BlockDiagonalVariant {
  input: BlockOrder;
  output: BlockOrder;
  /** Whether w is [blocks, inner, outer]. */
  transpose: boolean;
  /** Whether the rows of x, of the product or its gradient, and of the weights can be read four elements at a time. */
  vectorized: {input: boolean; output: boolean; weights: boolean};
}

/** Activations [batch, blocks · size]: `order` says where the elements of a block lie. */
function activations(
  name: StoredMatrix['name'],
  order: BlockOrder,
  transposed: boolean,
  vectorized: boolean,
): StoredMatrix {
  return order === 'interleaved'
    ? {name, transposed, vectorized: false, elementStride: 'params.blocks'}
    : {name, transposed, vectorized};
}

/** The part of activations that belongs to `block`; starts and counts are those of the product's rows and columns. */
function activationView(
  matrix: StoredMatrix,
  order: BlockOrder,
  size: string,
  start: [string, string],
  count: [string, string],
): string {
  const [base, step] = order === 'interleaved' ? ['block', 'params.blocks'] : [`block * params.${size}`, '1u'];
  // A view begins at its first element, so that steps within rows count here.
  const firstColumn = matrix.transposed ? start[0] : start[1];
  const firstRow = matrix.transposed ? start[1] : start[0];
  const stride = `params.blocks * params.${size}`;
  const first = `${base} + (${firstRow}) * ${stride} + (${firstColumn}) * ${step}`;
  return view(matrix, first, stride, ['0u', '0u'], count);
}

/** Code that makes the tile number `workgroup` of a product. */
interface TileCode {
  product: TileProduct;
  code: string;
}

/** A product as part of a larger whole: the buffers of its matrices, and which fields of Params are its sizes. */
interface Names<Matrix extends string> {
  buffers: Record<Matrix, string>;
  sizes: {inner: string; outer: string};
}

const forwardSizes = {inner: 'inner', outer: 'outer'};
const exchangedSizes = {inner: 'outer', outer: 'inner'};

/** out[b, j of block] = Σ_i x[b, i of block]·w[block, j, i]: rows are the batch, columns j. */
function productCode(variant: BlockDiagonalVariant, tile: ProductTile, names: Names<'x' | 'w' | 'out'>): TileCode {
  const {input, output, transpose, vectorized} = variant;
  const {buffers, sizes} = names;
  const left = activations(buffers.x, input, false, vectorized.input);
  const right: StoredMatrix = {name: buffers.w, transposed: !transpose, vectorized: vectorized.weights};
  const out = activations(buffers.out, output, false, vectorized.output);
  const product = new TileProduct(tile, left, right, out);
  const rows = 'params.batch - rowStart';
  const columns = `params.${sizes.outer} - columnStart`;
  const inner = `params.${sizes.inner} - inner`;
  const code = `
  let partsAcross = ${tilesAlong(sizes.outer, tile.columns)};
  // Neighbouring workgroups read the same rows of x.
  let columnStart = workgroup % partsAcross * ${tile.columns}u;
  let block = workgroup / partsAcross % params.blocks;
  let rowStart = workgroup / partsAcross / params.blocks * ${tile.rows}u;
  if (rowStart >= params.batch) { return; }
  let outView = ${activationView(out, output, sizes.outer, ['rowStart', 'columnStart'], [rows, columns])};
  ${product.enterTile}
  for (var inner = 0u; inner < params.${sizes.inner}; inner += ${tile.inner}u) {
    let leftView = ${activationView(left, input, sizes.inner, ['rowStart', 'inner'], [rows, inner])};
    let rightView = ${view(
      right,
      'block * params.outer * params.inner',
      `params.${transpose ? sizes.outer : sizes.inner}`,
      ['inner', 'columnStart'],
      [inner, columns],
    )};
    ${product.addChunk}
  }
  ${product.finishSums}
  ${product.storeTile}`;
  return {product, code};
}

/** dw[block, j, i] = Σ_b dy[b, j of block]·x[b, i of block]: rows are j, columns i, and the batch lies between them. */
function weightsCode(
  {input, output, vectorized}: Omit<BlockDiagonalVariant, 'transpose'>,
  tile: ProductTile,
  {buffers, sizes}: Names<'x' | 'dy' | 'dw'>,
): TileCode {
  const left = activations(buffers.dy, output, true, vectorized.output);
  const right = activations(buffers.x, input, false, vectorized.input);
  const out: StoredMatrix = {name: buffers.dw, transposed: false, vectorized: vectorized.weights};
  const product = new TileProduct(tile, left, right, out);
  const rows = `params.${sizes.outer} - rowStart`;
  const columns = `params.${sizes.inner} - columnStart`;
  const rest = 'params.batch - entry';
  const code = `
  let partsAcross = ${tilesAlong(sizes.inner, tile.columns)};
  let partsDown = ${tilesAlong(sizes.outer, tile.rows)};
  let columnStart = workgroup % partsAcross * ${tile.columns}u;
  let rowStart = workgroup / partsAcross % partsDown * ${tile.rows}u;
  let block = workgroup / partsAcross / partsDown;
  if (block >= params.blocks) { return; }
  let outView = ${view(
    out,
    'block * params.outer * params.inner',
    `params.${sizes.inner}`,
    ['rowStart', 'columnStart'],
    [rows, columns],
  )};
  ${product.enterTile}
  for (var entry = 0u; entry < params.batch; entry += ${tile.inner}u) {
    let leftView = ${activationView(left, output, sizes.outer, ['rowStart', 'entry'], [rows, rest])};
    let rightView = ${activationView(right, input, sizes.inner, ['entry', 'columnStart'], [rest, columns])};
    ${product.addChunk}
  }
  ${product.finishSums}
  ${product.storeTile}`;
  return {product, code};
}

function shaderOf({product, code}: TileCode, tile: ProductTile): Shader {
  const declared = declareProducts(tile, [product]);
  return makeShader(declared.bindings, paramsStruct, `${declared.code}${entryPoint(threadGrid(tile).threads, code)}`);
}

/** Binds x, w and the product, `out`. */
export function blockDiagonalShader(variant: BlockDiagonalVariant, tile: ProductTile): Shader {
  const names = {buffers: {x: 'x', w: 'w', out: 'out'}, sizes: forwardSizes};
  return shaderOf(productCode(variant, tile, names), tile);
}

/** Binds x, dy and dw. */
export function blockDiagonalWeightsShader(
  variant: Omit<BlockDiagonalVariant, 'transpose'>,
  tile: ProductTile,
): Shader {
  const names = {buffers: {x: 'x', dy: 'dy', dw: 'dw'}, sizes: forwardSizes};
  return shaderOf(weightsCode(variant, tile, names), tile);
}

/**
 * Both gradients of a product, whose variant and sizes these are: binds x, w, dy, dx and dw. The first workgroups make dw,
 * whose sums over the batch tend to be the longest, and the others dx.
 */
export function blockDiagonalBackwardShader(variant: BlockDiagonalVariant, sizes: ProductTile): Shader {
  // Both products unrolled made this slower on small matrices, the only ones that come here.
  const tile: ProductTile = {...sizes, unrolled: false};
  const {input, output, transpose, vectorized} = variant;
  const exchanged = {
    input: output,
    output: input,
    transpose: !transpose,
    vectorized: {...vectorized, input: vectorized.output, output: vectorized.input},
  };
  const ofX = productCode(exchanged, tile, {buffers: {x: 'dy', w: 'w', out: 'dx'}, sizes: exchangedSizes});
  // Weights of a transposed product have i for their rows and j for their columns.
  const ofWeights = transpose
    ? weightsCode(exchanged, tile, {buffers: {x: 'dy', dy: 'x', dw: 'dw'}, sizes: exchangedSizes})
    : weightsCode(variant, tile, {buffers: {x: 'x', dy: 'dy', dw: 'dw'}, sizes: forwardSizes});
  const [rows, columns] = transpose ? ['inner', 'outer'] : ['outer', 'inner'];
  const declared = declareProducts(tile, [ofX.product, ofWeights.product]);
  const body = `
${declared.code}
fn makeTileOfWeights(workgroup: u32, localIndex: u32) {${ofWeights.code}
}
fn makeTileOfX(workgroup: u32, localIndex: u32) {${ofX.code}
}
${entryPoint(
  threadGrid(tile).threads,
  `
  let tilesOfWeights = params.blocks * (${tilesAlong(rows, tile.rows)}) * (${tilesAlong(columns, tile.columns)});
  if (workgroup < tilesOfWeights) {
    makeTileOfWeights(workgroup, localIndex);
  } else {
    makeTileOfX(workgroup - tilesOfWeights, localIndex);
  }`,
)}`;
  return makeShader(declared.bindings, paramsStruct, body);
}
