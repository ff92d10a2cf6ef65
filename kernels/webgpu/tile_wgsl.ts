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
import {threadGrid, type TileSizes} from './tile_sizes.js';

/** 0, 1, …, count − 1. */
export function range(count: number): number[] {
  return Array.from({length: count}, (_, i) => i);
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

/** Runs `body` once for each of `count` work items, spread over the workgroup; the item's number is `item`. */
function spread(tile: TileSizes, count: number, body: string): string {
  const {threads} = threadGrid(tile);
  if (count % threads === 0 && count / threads <= 4) {
    return lines(count / threads, (i) => `{ let item = ${i * threads}u + localIndex;\n${body} }`);
  }
  return `for (var item = localIndex; item < ${count}u; item += ${threads}u) {\n${body}\n}`;
}

/** A matrix in a storage buffer: `load(row, quad)` gives four neighbouring elements, 0 outside the matrix. */
export interface Source {
  load(row: string, quad: string): string;
}

/** Loads a chunk of `quads` quads from rows rowStart, rowStart + 1, … into row memory. */
export function loadRows(tile: TileSizes, memory: RowMemory, source: Source, rowStart: string, quadStart: string) {
  return spread(
    tile,
    tile.rows * memory.quads,
    `let slot = item / ${memory.quads}u;
let quad = item % ${memory.quads}u;
${rowQuad(memory, 'slot', 'quad')} = ${source.load(`${rowStart} + ${rowOfSlot(tile, 'slot')}`, `${quadStart} + quad`)};`,
  );
}

/**
 * Loads rows of the source as columns: `innerQuads` quads of source rows columnStart … become that many times four rows
 * of column memory, `tile.columns` wide. The transpose happens in registers, four rows by four elements at a time.
 */
export function loadColumnsTransposed(
  tile: TileSizes,
  source: Source,
  columnStart: string,
  innerQuads: number,
  quadStart: string,
): string {
  const columnQuads = tile.columns / 4;
  return spread(
    tile,
    columnQuads * innerQuads,
    `let quad = item % ${columnQuads}u;
let inner = item / ${columnQuads}u;
${lines(4, (c) => `let column${c} = ${source.load(`${columnStart} + 4u * quad + ${c}u`, `${quadStart} + inner`)};`)}
${lines(4, (c) => {
  const component = 'xyzw'[c];
  const value = `vec4f(${range(4).map((i) => `column${i}.${component}`)})`;
  return writeColumnQuad(tile, columnQuads, `4u * inner + ${c}u`, 'quad', value);
})}`,
  );
}

/** Loads `innerCount` rows of the source as they are, `quads` quads wide, into column memory. */
export function loadColumns(tile: TileSizes, source: Source, innerStart: string, innerCount: number, quads: number) {
  return spread(
    tile,
    innerCount * quads,
    `let inner = item / ${quads}u;
let quad = item % ${quads}u;
let loaded = ${source.load(`${innerStart} + inner`, 'quad')};
${writeColumnQuad(tile, quads, 'inner', 'quad', 'loaded')}`,
  );
}

/** Declares the accumulators `${name}${i}_${n}`, zeroed. */
export function declareAccumulators(tile: TileSizes, name: string, quadsPerThread: number): string {
  return lines(tile.threadRows, (i) => lines(quadsPerThread, (n) => `var ${name}${i}_${n} = vec4f();`));
}

/** The product of row memory and column memory: adds left[·, quadStart·4 + inner]·right[inner, ·] to accumulators. */
export function multiplyAccumulate(
  tile: TileSizes,
  accumulator: string,
  left: RowMemory,
  leftQuadStart: string,
  innerQuads: number,
  quadsPerThread: number,
): string {
  const {threadsDown, threadsAcross} = threadGrid(tile);
  const quads = quadsPerThread * threadsAcross;
  const rightQuads = lines(quadsPerThread, (n) =>
    lines(
      4,
      (c) =>
        `let right${c}_${n} = ${readColumnQuad(tile, quads, `4u * inner + ${c}u`, `${n * threadsAcross}u + threadColumn`)};`,
    ),
  );
  const updates = lines(tile.threadRows, (i) => {
    const leftQuad = rowQuad(left, `${i * threadsDown}u + threadRow`, `${leftQuadStart} + inner`);
    return `let left${i} = ${leftQuad};
${lines(quadsPerThread, (n) => {
  const right = range(4).map((c) => `right${c}_${n}`);
  return `${accumulator}${i}_${n} = addProduct(${accumulator}${i}_${n}, left${i}, ${right.join(', ')});`;
})}`;
  });
  return `for (var inner = 0u; inner < ${innerQuads}u; inner++) {
${rightQuads}
${updates}
}`;
}

/** WGSL of `addProduct`: a chain of fused multiply-adds, with no separate product to add. */
export const addProductFunction = `
fn addProduct(sum: vec4f, left: vec4f, right0: vec4f, right1: vec4f, right2: vec4f, right3: vec4f) -> vec4f {
  return fma(left.wwww, right3, fma(left.zzzz, right2, fma(left.yyyy, right1, fma(left.xxxx, right0, sum))));
}`;
