/** WGSL of the product of two dense matrices: a workgroup makes a tile of it, or of a partial sum along the inner dimension. */
import {declareProducts, type StoredMatrix, TileProduct, tilesAlong, view} from './matrix_tiles_wgsl.js';
import {entryPoint, makeShader, type Shader} from './shader.js';
import {type ProductTile, threadGrid} from './tile_sizes.js';
import {lines} from './tile_wgsl.js';

/** Filled by `webgpuDenseMatMul` in dense_mat_mul.ts. */
const paramsStruct = `
struct Params {
  // Of the product, and what lies between a and b.
  rows: u32,
  columns: u32,
  inner: u32,
  // Of the inner dimension, what one partial sum has.
  innerOfPart: u32,
  parts: u32,
}`;

/** What the shader is compiled for. */
export interface DenseMatMulVariant {
  transposeA: boolean;
  transposeB: boolean;
  hasBias: boolean;
  /** Whether the rows of a matrix as it is stored can be read four elements at a time. */
  vectorized: {a: boolean; b: boolean; out: boolean};
}

/** Binds a, b, the bias where there is one, and the partial sums `out` [parts, rows, columns]. */
export function denseMatMulShader(variant: DenseMatMulVariant, tile: ProductTile): Shader {
  const {transposeA, transposeB, hasBias, vectorized} = variant;
  const a: StoredMatrix = {name: 'a', transposed: transposeA, vectorized: vectorized.a};
  const b: StoredMatrix = {name: 'b', transposed: transposeB, vectorized: vectorized.b};
  const out: StoredMatrix = {name: 'out', transposed: false, vectorized: vectorized.out};
  const bias: StoredMatrix = {name: 'bias', transposed: false, vectorized: vectorized.out};
  const product = new TileProduct(tile, a, b, out);
  const declared = declareProducts(tile, [product], hasBias ? [bias] : []);
  const {threads, threadsAcross} = threadGrid(tile);
  const rows = 'params.rows - rowStart';
  const columns = 'params.columns - columnStart';
  const inner = 'innerEnd - inner';
  const addBias = `
  let biasView = ${view(bias, '0u', 'params.columns', ['0u', 'columnStart'], ['1u', columns])};
  ${lines(tile.threadColumns / 4, (n) => {
    const sums = lines(tile.threadRows, (i) => `sum${i}_${n} += bias${n};`);
    return `let bias${n} = load_bias(biasView, 0u, ${n * threadsAcross}u + threadColumn);\n${sums}`;
  })}`;
  const code = `
  let partsAcross = ${tilesAlong('columns', tile.columns)};
  let partsDown = ${tilesAlong('rows', tile.rows)};
  // Neighbouring workgroups read the same rows of a.
  let columnStart = workgroup % partsAcross * ${tile.columns}u;
  let rowStart = workgroup / partsAcross % partsDown * ${tile.rows}u;
  let part = workgroup / partsAcross / partsDown;
  if (part >= params.parts) { return; }
  let innerEnd = min(params.inner, (part + 1u) * params.innerOfPart);
  let outView = ${view(out, 'part * params.rows * params.columns', 'params.columns', ['rowStart', 'columnStart'], [rows, columns])};
  ${product.enterTile}
  for (var inner = part * params.innerOfPart; inner < innerEnd; inner += ${tile.inner}u) {
    let leftView = ${view(a, '0u', transposeA ? 'params.rows' : 'params.inner', ['rowStart', 'inner'], [rows, inner])};
    let rightView = ${view(b, '0u', transposeB ? 'params.inner' : 'params.columns', ['inner', 'columnStart'], [inner, columns])};
    ${product.addChunk}
  }
  ${product.finishSums}
  ${hasBias ? addBias : ''}
  ${product.storeTile}`;
  return makeShader(declared.bindings, paramsStruct, `${declared.code}${entryPoint(threads, code)}`);
}
