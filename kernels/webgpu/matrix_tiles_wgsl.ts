/**
 * WGSL of one tile of a matrix product, whose operands lie in storage buffers in several ways and pass through workgroup
 * memory in chunks (tile_wgsl.ts): what products with sparse and with block-diagonal matrices have in common.
 */
import type {Binding} from './shader.js';
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
  /** Of its buffer. */
  name: string;
  /** Whether the buffer holds the transpose of what the product calls its rows and columns. */
  transposed: boolean;
  /** Whether four neighbouring elements of a stored row can be loaded as one. */
  vectorized: boolean;
  /** WGSL of how far neighbouring elements of a stored row are apart, where that is not 1; then not vectorized. */
  elementStride?: string;
}

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

function loadFunction({name, vectorized, elementStride}: StoredMatrix): string {
  const far = (count: string) => (elementStride ? `${count} * ${elementStride}` : count);
  // Without branches, because this is inlined many times, and some compilers take long over each.
  const body = vectorized
    ? `return select(vec4f(), ${name}[select(0u, (view.base + row * view.stride) / 4u + quad, inside)], inside);`
    : `let first = select(0u, view.base + row * view.stride + ${far('4u * quad')}, inside);
  let last = select(0u, view.columns - 1u - 4u * quad, inside);
  return vec4f(
    select(0.0, ${name}[first], inside),
    select(0.0, ${name}[first + ${far('min(1u, last)')}], inside & (last >= 1u)),
    select(0.0, ${name}[first + ${far('min(2u, last)')}], inside & (last >= 2u)),
    select(0.0, ${name}[first + ${far('min(3u, last)')}], inside & (last >= 3u)));`;
  return `
fn load_${name}(view: View, row: u32, quad: u32) -> vec4f {
  let inside = (row < view.rows) & (4u * quad < view.columns);
  ${body}
}`;
}

function storeFunction({name, vectorized, elementStride}: StoredMatrix): string {
  const far = (count: string) => (elementStride ? `${count} * ${elementStride}` : count);
  const body = vectorized
    ? `${name}[(view.base + row * view.stride) / 4u + quad] = value;`
    : `let first = view.base + row * view.stride + ${far('4u * quad')};
  for (var c = 0u; c < min(4u, view.columns - 4u * quad); c++) { ${name}[first + ${far('c')}] = value[c]; }`;
  return `
fn store_${name}(view: View, row: u32, quad: u32, value: vec4f) {
  if ((row >= view.rows) | (4u * quad >= view.columns)) { return; }
  ${body}
}`;
}

const leftMemoryOf = ({inner}: ProductTile) => ({name: 'leftMemory', quads: inner / 4});

/**
 * What a shader binds and declares for its products, which take turns in workgroup memory and may share operands, and for
 * what else it reads.
 */
export function declareProducts(
  tile: ProductTile,
  products: TileProduct[],
  others: StoredMatrix[] = [],
): {bindings: Binding[]; code: string} {
  const operands = new Map(products.flatMap(({left, right}) => [left, right].map((matrix) => [matrix.name, matrix])));
  const read = [...operands.values(), ...others];
  const written = products.map(({out}) => out);
  return {
    bindings: [...read.map((matrix) => binding(matrix, 'read')), ...written.map((out) => binding(out, 'read_write'))],
    code: `
${viewStruct}
${declareRowMemory(tile, leftMemoryOf(tile))}
${declareColumnMemory(tile)}
${addProductFunction}
${[...read.map(loadFunction), ...written.map(storeFunction)].join('')}`,
  };
}

/**
 * The parts that the code of a product is made of. It has `leftView` and `rightView` of a chunk, and `outView`, in
 * scope.
 */
export class TileProduct {
  constructor(
    private readonly tile: ProductTile,
    readonly left: StoredMatrix,
    readonly right: StoredMatrix,
    readonly out: StoredMatrix,
  ) {}

  get enterTile(): string {
    const {threadsAcross} = threadGrid(this.tile);
    return `
  let threadColumn = localIndex % ${threadsAcross}u;
  let threadRow = localIndex / ${threadsAcross}u;
  ${declareAccumulators(this.tile, 'sum', this.tile.threadColumns / 4)}`;
  }

  /** Adds the product of the two views to the sums. Views have local rows and columns, so that both begin at 0. */
  get addChunk(): string {
    const {tile} = this;
    const leftMemory = leftMemoryOf(tile);
    const source = (side: 'left' | 'right'): Source => ({
      load: (row, quad) => `load_${this[side].name}(${side}View, ${row}, ${quad})`,
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
          `store_${this.out.name}(outView, threadRow * ${tile.threadRows}u + ${i}u, ${n * threadsAcross}u + threadColumn, sum${i}_${n});`,
      ),
    );
  }
}

/** WGSL of how many tiles cover this field of Params. */
export const tilesAlong = (size: string, tileSize: number) => `(params.${size} + ${tileSize - 1}u) / ${tileSize}u`;

/** A view of stored[firstRow.., firstColumn..] of a matrix, given by its rows and columns as the product calls them. */
export function view(
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
