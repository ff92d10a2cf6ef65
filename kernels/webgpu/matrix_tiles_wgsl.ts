/**
 * WGSL of one tile of a matrix product, whose operands lie in storage buffers in several ways and pass through workgroup
 * memory in chunks (tile_wgsl.ts): what products with sparse and with block-diagonal matrices have in common.
 */
import {
  declareOuterMemory,
  enterOuterTile,
  multiplyOuter,
  outerMemoryQuads,
  outerRow,
  transferLeft,
  transferRight,
} from './outer_products_wgsl.js';
import type {Binding} from './shader.js';
import {type ProductTile, threadGrid} from './tile_sizes.js';
import {
  addProductFunction,
  declareAccumulators,
  declareColumnMemory,
  declareRowMemory,
  enterThreads,
  lines,
  multiplyAccumulate,
  range,
  type Source,
  type Transfer,
  transferAhead,
  transferColumns,
  transferColumnsTransposed,
  transferNow,
  transferRows,
  transferRowsTransposed,
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
 * stored row, 0 outside of the view; `loadInside_…`, of operands of unrolled products, does not ask whether they are inside.
 */
const viewStruct = `
struct View {
  base: u32,
  stride: u32,
  rows: u32,
  columns: u32,
}`;

/** WGSL of how far so many neighbouring elements of a stored row reach. */
const inElements = (elementStride: string | undefined) => (count: string) =>
  elementStride ? `${count} * ${elementStride}` : count;

function loadFunction({name, vectorized, elementStride}: StoredMatrix): string {
  const far = inElements(elementStride);
  // Without branches, because this is inlined many times, and some compilers take long over each.
  const checked = vectorized
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
  ${checked}
}`;
}

function loadInsideFunction({name, vectorized, elementStride}: StoredMatrix): string {
  const far = inElements(elementStride);
  const body = vectorized
    ? `return ${name}[(view.base + row * view.stride) / 4u + quad];`
    : `let first = view.base + row * view.stride + ${far('4u * quad')};
  return vec4f(${range(4).map((c) => `${name}[first + ${far(`${c}u`)}]`)});`;
  return `
fn loadInside_${name}(view: View, row: u32, quad: u32) -> vec4f {
  ${body}
}`;
}

function storeFunction({name, vectorized, elementStride}: StoredMatrix): string {
  const far = inElements(elementStride);
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

const rowMemoryOf = ({inner}: ProductTile) => ({name: 'rowMemory', quads: inner / 4});

/**
 * What a shader binds and declares for its products, which take turns in workgroup memory and may share operands, and for
 * what else it reads.
 */
export function declareProducts(
  tile: ProductTile,
  products: TileProduct[],
  others: StoredMatrix[] = [],
): {bindings: Binding[]; code: string} {
  const ofProducts = new Map(products.flatMap(({left, right}) => [left, right].map((matrix) => [matrix.name, matrix])));
  const operands = [...ofProducts.values()];
  const read = [...operands, ...others];
  const written = products.map(({out}) => out);
  return {
    bindings: [...read.map((matrix) => binding(matrix, 'read')), ...written.map((out) => binding(out, 'read_write'))],
    code: `
${viewStruct}
${tile.unrolled ? declareOuterMemory(outerMemoryQuads([tile])) : declareLoopMemory(tile)}
${[...read.map(loadFunction), ...(tile.unrolled ? operands.map(loadInsideFunction) : []), ...written.map(storeFunction)].join('')}`,
  };
}

function declareLoopMemory(tile: ProductTile): string {
  return `
${declareRowMemory(tile, rowMemoryOf(tile))}
${declareColumnMemory(tile)}
${addProductFunction}`;
}

/**
 * The parts that the code of a product is made of. It has `leftView` and `rightView` of a chunk, and `outView`, in
 * scope. Views have local rows and columns, so that both begin at 0.
 */
export class TileProduct {
  constructor(
    private readonly tile: ProductTile,
    readonly left: StoredMatrix,
    readonly right: StoredMatrix,
    readonly out: StoredMatrix,
  ) {}

  get enterTile(): string {
    const {tile} = this;
    const sums = declareAccumulators(tile, 'sum', tile.threadColumns / 4);
    if (tile.unrolled) {
      return `
  ${enterOuterTile(tile)}
  ${sums}
  ${this.ahead('left').declare}
  ${this.ahead('right').declare}
  var holdsChunk = false;`;
    }
    return `
  ${enterThreads(tile)}
  ${sums}`;
  }

  /**
   * Adds the product of the two views to the sums. GPUs keep the views in workgroup memory and add the product of those
   * before, which takes as long as the buffers take to answer; {@link finishSums} adds the last one.
   */
  get addChunk(): string {
    const {tile} = this;
    if (!tile.unrolled) {
      return `
    workgroupBarrier();
    ${transferNow(tile, this.transfer('left', 'load'))}
    ${transferNow(tile, this.transfer('right', 'load'))}
    workgroupBarrier();
    ${this.multiplyInLoop}`;
    }
    return `
    if (${this.isWhole('left')} & ${this.isWhole('right')}) {
      ${this.ahead('left', 'loadInside').fetch}
      ${this.ahead('right', 'loadInside').fetch}
    } else {
      ${this.ahead('left').fetch}
      ${this.ahead('right').fetch}
    }
    ${this.finishSums}
    workgroupBarrier();
    ${this.ahead('left').store}
    ${this.ahead('right').store}
    workgroupBarrier();
    holdsChunk = true;`;
  }

  /** Makes the sums whole after the last chunk. */
  get finishSums(): string {
    return this.tile.unrolled ? `if (holdsChunk) {\n${multiplyOuter(this.tile, 'sum')}\n}` : '';
  }

  get storeTile(): string {
    const {tile} = this;
    const {threadsAcross} = threadGrid(tile);
    const rowOf = (i: number) => (tile.unrolled ? outerRow(tile, i) : `threadRow * ${tile.threadRows}u + ${i}u`);
    return lines(tile.threadRows, (i) =>
      lines(
        tile.threadColumns / 4,
        (n) => `store_${this.out.name}(outView, ${rowOf(i)}, ${n * threadsAcross}u + threadColumn, sum${i}_${n});`,
      ),
    );
  }

  /** WGSL of whether a chunk lies within the view, the same for all invocations. */
  private isWhole(side: 'left' | 'right'): string {
    const {rows, columns, inner} = this.tile;
    const [down, across] = side === 'left' ? [rows, inner] : [inner, columns];
    const [storedRows, storedColumns] = this[side].transposed ? [across, down] : [down, across];
    return `(${side}View.rows >= ${storedRows}u) & (${side}View.columns >= ${storedColumns}u)`;
  }

  private ahead(side: 'left' | 'right', load: 'load' | 'loadInside' = 'load') {
    return transferAhead(this.tile, this.transfer(side, load), `${side}Ahead`);
  }

  private transfer(side: 'left' | 'right', load: 'load' | 'loadInside'): Transfer {
    const {tile} = this;
    const {name, transposed} = this[side];
    const source: Source = {load: (row, quad) => `${load}_${name}(${side}View, ${row}, ${quad})`};
    if (side === 'left') {
      if (tile.unrolled) return transferLeft(tile, source, transposed);
      const memory = rowMemoryOf(tile);
      return transposed ? transferRowsTransposed(tile, memory, source) : transferRows(tile, memory, source, '0u', '0u');
    }
    if (tile.unrolled) return transferRight(tile, source, !transposed);
    return transposed
      ? transferColumnsTransposed(tile, source, '0u', tile.inner / 4, '0u')
      : transferColumns(tile, source, '0u', tile.inner, tile.columns / 4);
  }

  private get multiplyInLoop(): string {
    const {tile} = this;
    const arrangement = this.right.transposed ? 'transposed' : 'plain';
    const [innerQuads, columnQuads] = [tile.inner / 4, tile.threadColumns / 4];
    return multiplyAccumulate(tile, 'sum', rowMemoryOf(tile), '0u', arrangement, innerQuads, columnQuads);
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
