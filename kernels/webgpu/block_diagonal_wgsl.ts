/**
 * WGSL of products with block-diagonal matrices and of their weights' gradients: a workgroup makes a tile of what one
 * block gives. Interleaved elements are read and written where they are, a number of blocks apart.
 */
import type {BlockOrder} from '../../src/kernel_names.js';
import {type StoredMatrix, TileProduct, view} from './matrix_tiles_wgsl.js';
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

/** What both shaders are compiled for. */
export interface BlockDiagonalVariant {
  input: BlockOrder;
  output: BlockOrder;
  /** Whether w is [blocks, inner, outer]. */
  transpose: boolean;
  /** Whether the rows of x, of the other activations, and of the weights can be read four elements at a time. */
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

/** out[b, j of block] = Σ_i x[b, i of block]·w[block, j, i]: rows are the batch, columns j. */
export function blockDiagonalShader(variant: BlockDiagonalVariant, tile: ProductTile): Shader {
  const {input, output, transpose, vectorized} = variant;
  const left = activations('left', input, false, vectorized.input);
  const right: StoredMatrix = {name: 'right', transposed: !transpose, vectorized: vectorized.weights};
  const out = activations('out', output, false, vectorized.output);
  const product = new TileProduct(tile, left, right, out);
  const rows = 'params.batch - rowStart';
  const columns = 'params.outer - columnStart';
  const inner = 'params.inner - inner';
  const body = `
${product.declarations}
${entryPoint(
  threadGrid(tile).threads,
  `
  let partsAcross = (params.outer + ${tile.columns - 1}u) / ${tile.columns}u;
  // Neighbouring workgroups read the same rows of x.
  let columnStart = workgroup % partsAcross * ${tile.columns}u;
  let block = workgroup / partsAcross % params.blocks;
  let rowStart = workgroup / partsAcross / params.blocks * ${tile.rows}u;
  if (rowStart >= params.batch) { return; }
  let outView = ${activationView(out, output, 'outer', ['rowStart', 'columnStart'], [rows, columns])};
  ${product.enterTile}
  for (var inner = 0u; inner < params.inner; inner += ${tile.inner}u) {
    let leftView = ${activationView(left, input, 'inner', ['rowStart', 'inner'], [rows, inner])};
    let rightView = ${view(
      right,
      'block * params.outer * params.inner',
      transpose ? 'params.outer' : 'params.inner',
      ['inner', 'columnStart'],
      [inner, columns],
    )};
    ${product.addChunk}
  }
  ${product.storeTile}`,
)}`;
  return makeShader(product.bindings, paramsStruct, body);
}

/** dw[block, j, i] = Σ_b dy[b, j of block]·x[b, i of block]: rows are j, columns i, and the batch lies between them. */
export function blockDiagonalWeightsShader(
  {input, output, vectorized}: Omit<BlockDiagonalVariant, 'transpose'>,
  tile: ProductTile,
): Shader {
  const left = activations('left', output, true, vectorized.output);
  const right = activations('right', input, false, vectorized.input);
  const out: StoredMatrix = {name: 'out', transposed: false, vectorized: vectorized.weights};
  const product = new TileProduct(tile, left, right, out);
  const rows = 'params.outer - rowStart';
  const columns = 'params.inner - columnStart';
  const rest = 'params.batch - entry';
  const body = `
${product.declarations}
${entryPoint(
  threadGrid(tile).threads,
  `
  let partsAcross = (params.inner + ${tile.columns - 1}u) / ${tile.columns}u;
  let partsDown = (params.outer + ${tile.rows - 1}u) / ${tile.rows}u;
  let columnStart = workgroup % partsAcross * ${tile.columns}u;
  let rowStart = workgroup / partsAcross % partsDown * ${tile.rows}u;
  let block = workgroup / partsAcross / partsDown;
  if (block >= params.blocks) { return; }
  let outView = ${view(
    out,
    'block * params.outer * params.inner',
    'params.inner',
    ['rowStart', 'columnStart'],
    [rows, columns],
  )};
  ${product.enterTile}
  for (var entry = 0u; entry < params.batch; entry += ${tile.inner}u) {
    let leftView = ${activationView(left, output, 'outer', ['rowStart', 'entry'], [rows, rest])};
    let rightView = ${activationView(right, input, 'inner', ['entry', 'columnStart'], [rest, columns])};
    ${product.addChunk}
  }
  ${product.storeTile}`,
)}`;
  return makeShader(product.bindings, paramsStruct, body);
}
