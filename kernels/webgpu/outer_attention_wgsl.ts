/**
 * WGSL emitters for attention kernels whose products are sums of outer products (outer_products_wgsl.ts): the scores of a
 * tile, the output and the gradients all stay in registers, and what they are made of passes through workgroup memory in
 * chunks, once for each tile. With register tiles of 8 × 8 an invocation takes four loads for 64 multiply-adds.
 *
 * Columns are dealt: a chunk of a weighted sum takes as many of them from each invocation, so that all of these store their
 * part of it.
 */
import {type AttentionVariant, insideSource, isVectorized, type Operand, operandSource} from './attention_wgsl.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {
  declareOuterMemory,
  leftStride,
  multiplyOuter,
  outerMemoryQuads,
  transferBoth,
  transferLeft,
  transferRight,
} from './outer_products_wgsl.js';
import {type ProductTile, threadGrid} from './tile_sizes.js';
import {type Ahead, componentsOf, lines, range, type Source, transferAhead} from './tile_wgsl.js';

/** The product of weights and so many columns of an operand, as wide as the head. */
function sumTile(tile: OuterTile, depth: number): ProductTile {
  const threadColumns = 4 * quadsOfSum(tile, depth);
  const {threadsAcross} = threadGrid(tile);
  return {...tile, columns: threadColumns * threadsAcross, threadColumns, inner: tile.innerColumns};
}

/** Quads of a row of a weighted sum that an invocation holds. */
export function quadsOfSum(tile: OuterTile, depth: number): number {
  return Math.ceil(Math.ceil(depth / 4) / threadGrid(tile).threadsAcross);
}

/** For {@link overRows}: a number of each row from each invocation that holds some of it. */
const reductionQuads = (tile: OuterTile) => (threadGrid(tile).threadsAcross * tile.rows) / 4;

function memoryQuads(tile: OuterTile, sumDepths: number[]): {left: number; right: number} {
  const {left, right} = outerMemoryQuads([tile, ...sumDepths.map((depth) => sumTile(tile, depth))]);
  return {left: Math.max(left, reductionQuads(tile)), right};
}

/** Declares the workgroup memory of a kernel with weighted sums of these depths. */
export function declareTileMemory(tile: OuterTile, sumDepths: number[]): string {
  return declareOuterMemory(memoryQuads(tile, sumDepths));
}

export function tileMemoryBytes(tile: OuterTile, sumDepths: number[]): number {
  const {left, right} = memoryQuads(tile, sumDepths);
  return 16 * (left + right);
}

/** An operand of one head: its rows, and those without conditions, where whole vectors are loaded. */
export interface HeadOperand {
  depth: number;
  source: Source;
  inside?: Source;
}

/**
 * An operand whose rows begin at `${operand}Base`. Where whole vectors are loaded nothing is asked: a row past the limit is
 * the last one again, and what it is multiplied with is 0 or not stored.
 */
export function headOperand(variant: AttentionVariant, operand: Operand, depth: number, limit: string): HeadOperand {
  const base = `${operand}Base`;
  const inside = isVectorized(variant, operand) ? insideSource(operand, base, limit) : undefined;
  return {depth, source: operandSource(operand, base, limit), inside};
}

/** The operand's rows in chunks of so many elements, which may reach past the depth. */
export const sourceInChunks = ({depth, source, inside}: HeadOperand, width: number) =>
  inside && depth % width === 0 ? inside : source;

/** Adds to `${sum}${row}_${quad}` the products of the rows from `leftStart` and those from `rightStart` on, over the depth. */
export function multiplyTransposed(
  tile: OuterTile,
  sum: string,
  left: HeadOperand,
  leftStart: string,
  right: HeadOperand,
  rightStart: string,
): string {
  const quads = tile.inner / 4;
  const rowsFrom = (operand: HeadOperand, start: string): Source => {
    const source = sourceInChunks(operand, tile.inner);
    return {load: (row, quad) => source.load(`${start} + ${row}`, `ahead * ${quads}u + ${quad}`)};
  };
  return overChunks(
    tile,
    `${Math.ceil(left.depth / tile.inner)}u`,
    transferBoth(
      tile,
      transferLeft(tile, rowsFrom(left, leftStart), false),
      transferRight(tile, rowsFrom(right, rightStart), false),
      sum,
    ),
    '',
    multiplyOuter(tile, sum),
  );
}

/** Adds to `${sum}${row}_${quad}` the rows of an operand from `rightStart` on, with the weights `${weights}${row}_${quad}`. */
export function addWeighted(
  tile: OuterTile,
  sum: string,
  weights: string,
  right: HeadOperand,
  rightStart: string,
): string {
  const product = sumTile(tile, right.depth);
  const source = sourceInChunks(right, product.columns);
  const dealt: Source = {
    load: (slot, quad) => source.load(`${rightStart} + ${dealtColumn(tile, 'ahead', slot)}`, quad),
  };
  return overChunks(
    tile,
    `${tile.columns / tile.innerColumns}u`,
    transferAhead(product, transferRight(product, dealt, true), `${sum}Ahead`),
    storeWeights(tile, weights),
    multiplyOuter(product, sum),
  );
}

/** Columns that each invocation gives to a chunk of a weighted sum. */
const dealtAtOnce = ({innerColumns, threadColumns, columns}: OuterTile) => (innerColumns * threadColumns) / columns;

/** The tile's column in a slot of a chunk. */
function dealtColumn(tile: OuterTile, chunk: string, slot: string): string {
  const {threadsAcross} = threadGrid(tile);
  const atOnce = dealtAtOnce(tile);
  const own = `(${chunk} * ${atOnce}u + ${slot} % ${atOnce}u)`;
  return `4u * (${own} / 4u * ${threadsAcross}u + ${slot} / ${atOnce}u) + ${own} % 4u`;
}

/** Stores the own weights of a chunk where the left operand of a product lies. */
function storeWeights(tile: OuterTile, weights: string): string {
  const {threadsDown} = threadGrid(tile);
  const atOnce = dealtAtOnce(tile);
  const store = (chunk: number) =>
    lines(atOnce, (t) => {
      const own = chunk * atOnce + t;
      const quadOfRows = (m: number) =>
        componentsOf(
          range(4).map((r) => `${weights}${4 * m + r}_${Math.floor(own / 4)}`),
          own % 4,
        );
      const slot = `(threadColumn * ${atOnce}u + ${t}u)`;
      return lines(
        tile.threadRows / 4,
        (m) => `leftMemory[${slot} * ${leftStride(tile)}u + ${m * threadsDown}u + threadRow] = ${quadOfRows(m)};`,
      );
    });
  const count = tile.columns / tile.innerColumns;
  return `switch chunk {
    ${lines(count, (chunk) => `${chunk === count - 1 ? 'default' : `case ${chunk}u`}: {\n${store(chunk)}\n}`)}
  }`;
}

/** A loop over the chunks of a product, each loaded while the one before is multiplied; there is one at least. */
export function overChunks(
  {loadsPastEnd}: Pick<OuterTile, 'loadsPastEnd'>,
  count: string,
  {declare, fetch, store}: Ahead,
  storeOther: string,
  multiply: string,
): string {
  const fetchChunk = (ahead: string) => `{ let ahead = ${ahead};\n${fetch} }`;
  const fetchNext = loadsPastEnd
    ? fetchChunk(`min(chunk + 1u, ${count} - 1u)`)
    : `if (chunk + 1u < ${count}) ${fetchChunk('chunk + 1u')}`;
  return `{
    ${declare}
    ${fetchChunk('0u')}
    for (var chunk = 0u; chunk < ${count}; chunk++) {
      workgroupBarrier();
      ${store}
      ${storeOther}
      workgroupBarrier();
      ${fetchNext}
      ${multiply}
    }
  }`;
}

/**
 * The result of a commutative `combine` of `${name}${row}` over all invocations that hold some of the row, for each of
 * them. Takes the memory of left operands.
 */
export function overRows(tile: OuterTile, name: string, combine: (a: string, b: string) => string): string {
  const {threadsDown, threadsAcross} = threadGrid(tile);
  const groups = tile.threadRows / 4;
  const slot = (column: string, m: number) =>
    `leftMemory[${column} * ${tile.rows / 4}u + ${m * threadsDown}u + threadRow]`;
  return `
  workgroupBarrier();
  ${lines(groups, (m) => `${slot('threadColumn', m)} = vec4f(${range(4).map((r) => `${name}${4 * m + r}`)});`)}
  workgroupBarrier();
  {
    ${lines(groups, (m) => `var all${m} = ${slot('0u', m)};`)}
    for (var t = 1u; t < ${threadsAcross}u; t++) {
      ${lines(groups, (m) => `all${m} = ${combine(`all${m}`, slot('t', m))};`)}
    }
    ${lines(tile.threadRows, (i) => `${name}${i} = all${Math.floor(i / 4)}.${'xyzw'[i % 4]};`)}
  }`;
}
