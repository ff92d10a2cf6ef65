/**
 * WGSL emitters for register-tiled matrix products in workgroup memory, shared by all attention kernels.
 *
 * Every product of attention, forward and backward, is acc[row, column] += Σ left[row, inner]·right[inner, column]
 * with `left` in row memory, `right` in column memory and `acc` in registers. All three are made of vec4 quads:
 *
 * - row memory: quad (row, n) holds inner = 4n … 4n+3. Invocations of one tile row read the same address.
 * - column memory: quad (inner, n) holds columns 4n … 4n+3. Neighbouring invocations read neighbouring quads.
 * - accumulators `${name}${i}_${n}`: row i of the invocation, and its n-th column quad.
 *
 * Invocation (threadRow, threadColumn) owns rows threadRow·threadRows + i and, in a tile of Q column quads, the quads
 * threadColumn, threadColumn + threadsAcross, …
 */
import {type TileSizes, threadGrid} from './tile_sizes.js';

/** 0, 1, …, count − 1. */
export function range(count: number): number[] {
  return Array.from({length: count}, (_, i) => i);
}

/** WGSL of the four components of this name, one of each of four quads. */
export function componentsOf(quads: string[], component: number): string {
  return `vec4f(${quads.map((quad) => `${quad}.${'xyzw'[component]}`)})`;
}

/** Declares `threadRow` and `threadColumn`, where an invocation stands in its tile. */
export function enterThreads(tile: TileSizes): string {
  const {threadsAcross} = threadGrid(tile);
  return `let threadColumn = localIndex % ${threadsAcross}u;
  let threadRow = localIndex / ${threadsAcross}u;`;
}

/** Joins lines of code for i = 0 … count − 1. */
export function lines(count: number, line: (i: number) => string): string {
  return range(count).map(line).join('\n');
}

/** A matrix in row memory: `quads` vec4 per row, padded by one so that neighbouring rows start in other banks. */
export interface RowMemory {
  name: string;
  quads: number;
}

const rowStride = (memory: RowMemory) => memory.quads + 1;

export function declareRowMemory(tile: TileSizes, memory: RowMemory): string {
  return `var<workgroup> ${memory.name}: array<vec4f, ${tile.rows * rowStride(memory)}>;`;
}

/** Bytes that {@link declareRowMemory} takes. */
export function rowMemoryBytes(tile: TileSizes, quads: number): number {
  return tile.rows * (quads + 1) * 16;
}

/**
 * Slots interleave the rows of the invocations, so that invocations below one another read neighbouring slots: row i of
 * invocation threadRow lies in slot i·threadsDown + threadRow.
 */
export function rowOfSlot(tile: TileSizes, slot: string): string {
  const {threadsDown} = threadGrid(tile);
  return `(${slot} % ${threadsDown}u) * ${tile.threadRows}u + ${slot} / ${threadsDown}u`;
}

export function rowQuad(memory: RowMemory, slot: string, quad: string): string {
  return `${memory.name}[(${slot}) * ${rowStride(memory)}u + ${quad}]`;
}

/** Stores a register tile of one quad per row and column group into row memory. */
export function storeRows(tile: TileSizes, memory: RowMemory, value: (row: number, n: number) => string): string {
  const {threadsDown, threadsAcross} = threadGrid(tile);
  return lines(tile.threadRows, (i) =>
    lines(
      tile.threadColumns / 4,
      (n) =>
        `${rowQuad(memory, `${i * threadsDown}u + threadRow`, `${n * threadsAcross}u + threadColumn`)} = ${value(i, n)};`,
    ),
  );
}

/** Column memory is one buffer that each product lays out anew: `columns` are its quads per row at that time. */
export function declareColumnMemory(tile: TileSizes): string {
  return tile.layout === 'packed'
    ? `var<workgroup> columnMemory: array<vec4f, ${tile.columnFloats / 4}>;`
    : `var<workgroup> columnMemory: array<f32, ${tile.columnFloats}>;`;
}

/** Reads quad `quad` of row `inner` from column memory laid out with `quads` quads a row. */
function readColumnQuad(tile: TileSizes, quads: number, inner: string, quad: string): string {
  if (tile.layout === 'packed') return `columnMemory[(${inner}) * ${quads}u + ${quad}]`;
  const planes = range(4).map((c) => `columnMemory[(${inner}) * ${4 * quads}u + ${c * quads}u + ${quad}]`);
  return `vec4f(${planes.join(', ')})`;
}

function writeColumnQuad(tile: TileSizes, quads: number, inner: string, quad: string, value: string): string {
  if (tile.layout === 'packed') return `columnMemory[(${inner}) * ${quads}u + ${quad}] = ${value};`;
  return lines(
    4,
    (c) => `columnMemory[(${inner}) * ${4 * quads}u + ${c * quads}u + ${quad}] = (${value}).${'xyzw'[c]};`,
  );
}

/**
 * Runs `body` once for each of `count` work items, spread over the workgroup; the item's number is `item`. Up to
 * `mostUnrolled` rounds are unrolled.
 */
export function spread(threads: number, count: number, mostUnrolled: number, body: string): string {
  if (count % threads === 0 && count / threads <= mostUnrolled) {
    return lines(count / threads, (i) => `{ let item = ${i * threads}u + localIndex;\n${body} }`);
  }
  return `for (var item = localIndex; item < ${count}u; item += ${threads}u) {\n${body}\n}`;
}

/** A matrix in a storage buffer: `load(row, quad)` gives four neighbouring elements, 0 outside the matrix. */
export interface Source {
  load(row: string, quad: string): string;
}

/**
 * How a chunk of an operand gets from its storage buffer into workgroup memory: in `items`, which the workgroup shares
 * out. All is WGSL with `item`, the number of one, in scope.
 */
export interface Transfer {
  items: number;
  /** Declares where the item comes from and goes to. */
  place: string;
  /** Its values, vec4f, as the buffer has them. */
  values: string[];
  /** Statements that store values. */
  store(values: string[]): string;
}

/** Moves a whole chunk. */
export function transferNow(tile: TileSizes, {items, place, values, store}: Transfer): string {
  const names = values.map((_, c) => `value${c}`);
  const body = `${place}
${lines(values.length, (c) => `let ${names[c]} = ${values[c]};`)}
${store(names)}`;
  // Few rounds are unrolled for GPUs; software takes longer to compile them than it gains.
  return spread(threadGrid(tile).threads, items, tile.layout === 'packed' ? 4 : 0, body);
}

/** WGSL that moves a chunk in two steps. */
export interface Ahead {
  declare: string;
  fetch: string;
  store: string;
}

/**
 * Moves a whole chunk in two steps, so that the buffer can answer while the invocations do something else; in between,
 * each holds its items in variables that begin with `name`.
 */
export function transferAhead(tile: TileSizes, {items, place, values, store}: Transfer, name: string): Ahead {
  const {threads} = threadGrid(tile);
  const rounds = Math.ceil(items / threads);
  const held = (round: number) => values.map((_, c) => `${name}${round}_${c}`);
  const eachRound = (body: (round: number) => string) =>
    lines(rounds, (round) => {
      const isWhole = (round + 1) * threads <= items;
      const guarded = isWhole ? body(round) : `if (item < ${items}u) {\n${body(round)}\n}`;
      return `{ let item = ${round * threads}u + localIndex;\n${guarded} }`;
    });
  const assign = (round: number) => lines(values.length, (c) => `${held(round)[c]} = ${values[c]};`);
  return {
    declare: lines(rounds, (round) => lines(values.length, (c) => `var ${held(round)[c]} = vec4f();`)),
    fetch: eachRound((round) => `${place}\n${assign(round)}`),
    store: eachRound((round) => `${place}\n${store(held(round))}`),
  };
}

/** A chunk of `quads` quads from rows rowStart, rowStart + 1, … for row memory. */
export function transferRows(
  tile: TileSizes,
  memory: RowMemory,
  source: Source,
  rowStart: string,
  quadStart: string,
): Transfer {
  return {
    items: tile.rows * memory.quads,
    place: `let slot = item / ${memory.quads}u;
let quad = item % ${memory.quads}u;`,
    values: [source.load(`${rowStart} + ${rowOfSlot(tile, 'slot')}`, `${quadStart} + quad`)],
    store: ([value]) => `${rowQuad(memory, 'slot', 'quad')} = ${value};`,
  };
}

/**
 * A chunk of `memory.quads` quads of inner elements of each row from a source that holds them transposed: `load`
 * gives four neighbouring rows of one inner element.
 */
export function transferRowsTransposed(tile: TileSizes, memory: RowMemory, source: Source): Transfer {
  const rowQuads = tile.rows / 4;
  const {threadsDown} = threadGrid(tile);
  // The slot of the row, the inverse of rowOfSlot.
  const slotOf = (row: string) => `(${row}) % ${tile.threadRows}u * ${threadsDown}u + (${row}) / ${tile.threadRows}u`;
  return {
    items: rowQuads * memory.quads,
    place: `let rowGroup = item % ${rowQuads}u;
let quad = item / ${rowQuads}u;`,
    values: range(4).map((c) => source.load(`4u * quad + ${c}u`, 'rowGroup')),
    store: (inner) =>
      lines(4, (r) => {
        const slot = slotOf(`4u * rowGroup + ${r}u`);
        return `${rowQuad(memory, slot, 'quad')} = ${componentsOf(inner, r)};`;
      }),
  };
}

/** Quads of column memory that {@link transferColumnsTransposed} takes for a chunk of `innerQuads`. */
export function transposedQuads(tile: TileSizes, innerQuads: number): number {
  return tile.columns * transposedStride(tile, innerQuads);
}

/** Packed, a source row keeps its quads together, and one more so that neighbouring rows start in other banks. */
function transposedStride(tile: TileSizes, innerQuads: number): number {
  return tile.layout === 'packed' ? innerQuads + 1 : innerQuads;
}

/**
 * A chunk of `innerQuads` quads of the source rows columnStart, columnStart + 1, …, one for each column of the
 * tile, for {@link multiplyAccumulate} to read. Planar memory gets them transposed; packed memory as they are, in slots that
 * interleave the columns of the invocations: column 4·(n·threadsAcross + threadColumn) + j lies in slot
 * (4n + j)·threadsAcross + threadColumn, next to its neighbours' in the same place.
 */
export function transferColumnsTransposed(
  tile: TileSizes,
  source: Source,
  columnStart: string,
  innerQuads: number,
  quadStart: string,
): Transfer {
  const load = (column: string, inner: string) => source.load(`${columnStart} + ${column}`, `${quadStart} + ${inner}`);
  if (tile.layout === 'packed') {
    const {threadsAcross} = threadGrid(tile);
    return {
      items: tile.columns * innerQuads,
      place: `let slot = item / ${innerQuads}u;
let inner = item % ${innerQuads}u;
let quad = slot / ${4 * threadsAcross}u * ${threadsAcross}u + slot % ${threadsAcross}u;
let column = 4u * quad + slot / ${threadsAcross}u % 4u;`,
      values: [load('column', 'inner')],
      store: ([value]) => `columnMemory[slot * ${transposedStride(tile, innerQuads)}u + inner] = ${value};`,
    };
  }
  const columnQuads = tile.columns / 4;
  return {
    items: columnQuads * innerQuads,
    place: `let quad = item % ${columnQuads}u;
let inner = item / ${columnQuads}u;`,
    values: range(4).map((c) => load(`4u * quad + ${c}u`, 'inner')),
    store: (columns) =>
      lines(4, (c) => writeColumnQuad(tile, columnQuads, `4u * inner + ${c}u`, 'quad', componentsOf(columns, c))),
  };
}

/**
 * How the right operand lies in column memory: as {@link transferColumnsTransposed} or as {@link transferColumns} left it. Planar
 * memory looks the same after both.
 */
export type ColumnArrangement = 'transposed' | 'plain';

/** Declares `right${c}_${n}`, the n-th column quad of row 4·inner + c, from packed memory. */
function readPackedColumns(
  tile: TileSizes,
  arrangement: ColumnArrangement,
  innerQuads: number,
  quadsPerThread: number,
): string {
  const {threadsAcross} = threadGrid(tile);
  const plain = (n: number) =>
    lines(4, (c) => {
      const quad = `${n * threadsAcross}u + threadColumn`;
      return `let right${c}_${n} = ${readColumnQuad(tile, quadsPerThread * threadsAcross, `4u * inner + ${c}u`, quad)};`;
    });
  const transposed = (n: number) => {
    const slot = (j: number) => `(${(4 * n + j) * threadsAcross}u + threadColumn)`;
    const reads = lines(
      4,
      (j) => `let column${j}_${n} = columnMemory[${slot(j)} * ${transposedStride(tile, innerQuads)}u + inner];`,
    );
    const transpose = lines(4, (c) => {
      const columns = range(4).map((j) => `column${j}_${n}`);
      return `let right${c}_${n} = ${componentsOf(columns, c)};`;
    });
    return `${reads}\n${transpose}`;
  };
  return lines(quadsPerThread, arrangement === 'plain' ? plain : transposed);
}

/** `innerCount` rows of the source as they are, `quads` quads wide, for column memory. */
export function transferColumns(
  tile: TileSizes,
  source: Source,
  innerStart: string,
  innerCount: number,
  quads: number,
): Transfer {
  return {
    items: innerCount * quads,
    place: `let inner = item / ${quads}u;
let quad = item % ${quads}u;`,
    values: [source.load(`${innerStart} + inner`, 'quad')],
    store: ([value]) => writeColumnQuad(tile, quads, 'inner', 'quad', value),
  };
}

/** Declares the accumulators `${name}${i}_${n}`, zeroed. */
export function declareAccumulators(tile: TileSizes, name: string, quadsPerThread: number): string {
  return lines(tile.threadRows, (i) => lines(quadsPerThread, (n) => `var ${name}${i}_${n} = vec4f();`));
}

/** The product of row memory and column memory: acc += left[·, 4·leftQuadStart + inner] · right[inner, ·]. */
export function multiplyAccumulate(
  tile: TileSizes,
  accumulator: string,
  left: RowMemory,
  leftQuadStart: string,
  arrangement: ColumnArrangement,
  innerQuads: number,
  quadsPerThread: number,
): string {
  const {threadsDown, threadsAcross} = threadGrid(tile);
  const leftQuad = (i: number, quad: string) =>
    rowQuad(left, `${i * threadsDown}u + threadRow`, `${leftQuadStart} + ${quad}`);
  if (tile.layout === 'planar') {
    // One row of the right operand at a time: a quarter of the code, for devices that load element by element anyway.
    const right = (n: number) =>
      readColumnQuad(tile, quadsPerThread * threadsAcross, 'inner', `${n * threadsAcross}u + threadColumn`);
    return `for (var inner = 0u; inner < ${4 * innerQuads}u; inner++) {
${lines(quadsPerThread, (n) => `let right_${n} = ${right(n)};`)}
${lines(
  tile.threadRows,
  (i) => `let left${i} = vec4f(${leftQuad(i, 'inner / 4u')}[inner % 4u]);
${lines(quadsPerThread, (n) => `${accumulator}${i}_${n} = fma(left${i}, right_${n}, ${accumulator}${i}_${n});`)}`,
)}
}`;
  }
  const updates = lines(
    tile.threadRows,
    (i) => `let left${i} = ${leftQuad(i, 'inner')};
${lines(quadsPerThread, (n) => {
  const rightRows = range(4).map((c) => `right${c}_${n}`);
  return `${accumulator}${i}_${n} = addProduct(${accumulator}${i}_${n}, left${i}, ${rightRows.join(', ')});`;
})}`,
  );
  return `for (var inner = 0u; inner < ${innerQuads}u; inner++) {
${readPackedColumns(tile, arrangement, innerQuads, quadsPerThread)}
${updates}
}`;
}

/** WGSL of `addProduct`: a chain of fused multiply-adds, with no separate product to add. */
export const addProductFunction = `
fn addProduct(sum: vec4f, left: vec4f, right0: vec4f, right1: vec4f, right2: vec4f, right3: vec4f) -> vec4f {
  return fma(left.wwww, right3, fma(left.zzzz, right2, fma(left.yyyy, right1, fma(left.xxxx, right0, sum))));
}`;
