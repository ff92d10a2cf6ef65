/**
 * The two products that attention kernels are made of, in chunks that fit column memory:
 *
 * - scores: acc += left · rightᵀ, where both operands come from storage, row by row ({@link multiplyTransposed});
 * - weighted sums: acc += weights · right, where the weights lie in row memory already ({@link accumulateColumns}).
 */
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {
  multiplyAccumulate,
  type RowMemory,
  type Source,
  transferColumns,
  transferColumnsTransposed,
  transferNow,
  transferRows,
  transposedQuads,
} from './tile_wgsl.js';

/** How the head dimension is cut for a product over it: `count` chunks of `quads` vec4s. */
export function depthChunks(tile: TileSizes, depth: number): {count: number; quads: number} {
  const depthQuads = Math.ceil(depth / 4);
  let count = 1;
  const quads = () => Math.ceil(depthQuads / count);
  while (quads() > 1 && 4 * transposedQuads(tile, quads()) > tile.columnFloats) count++;
  return {count, quads: quads()};
}

/** How an accumulator as wide as the head dimension is spread over the invocations across a tile. */
export function columnWidth(tile: TileSizes, depth: number): {quads: number; quadsPerThread: number} {
  const {threadsAcross} = threadGrid(tile);
  const quadsPerThread = Math.ceil(Math.ceil(depth / 4) / threadsAcross);
  return {quads: quadsPerThread * threadsAcross, quadsPerThread};
}

/** Rows of a weighted sum's right operand that column memory takes at once: a power of two that divides the tile. */
function innerRows(tile: TileSizes, depth: number): number {
  const {quads} = columnWidth(tile, depth);
  let rows = tile.columns;
  while (rows > 4 && rows * quads * 4 > tile.columnFloats) rows /= 2;
  return rows;
}

/** The left operand of a product over the head dimension: where it comes from, and the memory it goes through. */
export interface LeftOperand {
  source: Source;
  memory: RowMemory;
  /** Whether the memory holds all of it and was filled by {@link keepLeft} before. */
  kept: boolean;
}

/** A left operand that stays in row memory over many products if one chunk holds it. */
export function leftOperand(tile: TileSizes, depth: number, name: string, source: Source): LeftOperand {
  const {count, quads} = depthChunks(tile, depth);
  return {source, memory: {name, quads}, kept: count === 1};
}

/** Fills the memory of an operand that is kept. */
export function keepLeft(tile: TileSizes, left: LeftOperand, start: string): string {
  return left.kept ? transferNow(tile, transferRows(tile, left.memory, left.source, start, '0u')) : '';
}

/** acc[row, column] += Σ_d left[leftStart + row, d] · right[rightStart + column, d] over the whole head dimension. */
export function multiplyTransposed(
  tile: TileSizes,
  depth: number,
  accumulator: string,
  left: LeftOperand,
  leftStart: string,
  right: Source,
  rightStart: string,
): string {
  const {count, quads} = depthChunks(tile, depth);
  const step = (quadStart: string) => `
workgroupBarrier();
${left.kept ? '' : transferNow(tile, transferRows(tile, left.memory, left.source, leftStart, quadStart))}
${transferNow(tile, transferColumnsTransposed(tile, right, rightStart, quads, quadStart))}
workgroupBarrier();
${multiplyAccumulate(tile, accumulator, left.memory, '0u', 'transposed', quads, tile.threadColumns / 4)}`;
  if (count === 1) return step('0u');
  return `for (var quadStart = 0u; quadStart < ${count * quads}u; quadStart += ${quads}u) {${step('quadStart')}\n}`;
}

/**
 * acc[row, ·] += Σ_j weights[row, j] · right[rightStart + j, ·], over the tile's columns j. The caller has just stored
 * the weights; `waitFirst` says whether column memory may still be in use at that point.
 */
export function accumulateColumns(
  tile: TileSizes,
  depth: number,
  accumulator: string,
  weights: RowMemory,
  right: Source,
  rightStart: string,
  waitFirst: boolean,
): string {
  const {quads, quadsPerThread} = columnWidth(tile, depth);
  const rows = innerRows(tile, depth);
  const step = (rowStart: string, weightQuad: string) => `
${transferNow(tile, transferColumns(tile, right, rowStart, rows, quads))}
workgroupBarrier();
${multiplyAccumulate(tile, accumulator, weights, weightQuad, 'plain', rows / 4, quadsPerThread)}`;
  const first = waitFirst ? 'workgroupBarrier();' : '';
  if (rows === tile.columns) return first + step(rightStart, '0u');
  return `${first}
for (var rowStart = 0u; rowStart < ${tile.columns}u; rowStart += ${rows}u) {
${step(`${rightStart} + rowStart`, 'rowStart / 4u')}
workgroupBarrier();
}`;
}
