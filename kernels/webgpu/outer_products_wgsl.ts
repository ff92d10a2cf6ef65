/**
 * WGSL emitters for tiles of matrix products that are sums of outer products: both operands lie in workgroup memory by
 * inner elements, and for each of these an invocation loads quads of its rows and of its columns and multiplies each with
 * each. All inner elements of a chunk are unrolled: loops cost these kernels a quarter of their speed.
 *
 * Invocation (threadRow, threadColumn) owns the quads threadRow, threadRow + threadsDown, … of the tile's rows, and the
 * quads threadColumn, threadColumn + threadsAcross, … of its columns.
 */
import {type ProductTile, threadGrid} from './tile_sizes.js';
import {
  type Ahead,
  componentsOf,
  enterThreads,
  lines,
  range,
  type Source,
  type Transfer,
  transferAhead,
} from './tile_wgsl.js';

/** The memory of an operand: so many rows or columns of the tile for each inner element. */
interface OuterMemory {
  name: string;
  length: number;
}

const leftMemory = ({rows}: ProductTile): OuterMemory => ({name: 'leftMemory', length: rows});
const rightMemory = ({columns}: ProductTile): OuterMemory => ({name: 'rightMemory', length: columns});

/** A quad of padding, so that stores of one quad to four inner elements meet other banks. */
const stride = ({length}: OuterMemory) => length / 4 + 1;

/** Quads from inner element to inner element of the left operand in workgroup memory. */
export const leftStride = (tile: ProductTile) => stride(leftMemory(tile));

/** Quads of workgroup memory that products with these tiles take, one after the other. */
export function outerMemoryQuads(tiles: ProductTile[]): {left: number; right: number} {
  const most = (memoryOf: (tile: ProductTile) => OuterMemory) =>
    Math.max(...tiles.map((tile) => tile.inner * stride(memoryOf(tile))));
  return {left: most(leftMemory), right: most(rightMemory)};
}

export function declareOuterMemory({left, right}: {left: number; right: number}): string {
  return `
var<workgroup> leftMemory: array<vec4f, ${left}>;
var<workgroup> rightMemory: array<vec4f, ${right}>;`;
}

/**
 * Lanes of a SIMD group that lie across the tile; the others lie below them, to share their columns. Lane and lane ^ 1 have
 * the same columns, lane and lane ^ 2 the same rows: where all lanes share what they load with one of these two, NVIDIA's
 * GPUs load 16 bytes for each in two passes, otherwise in four.
 */
const LANES_ACROSS = 8;
/** Where SIMD groups have other sizes, the places are as good as any. */
const LANES = 32;

/** Declares `threadRow` and `threadColumn`. */
export function enterOuterTile(tile: ProductTile): string {
  const {threadsDown, threadsAcross, threads} = threadGrid(tile);
  const lanesDown = LANES / LANES_ACROSS;
  if (threads % LANES !== 0 || threadsAcross % LANES_ACROSS !== 0 || threadsDown % lanesDown !== 0) {
    return enterThreads(tile);
  }
  const groupsAcross = threadsAcross / LANES_ACROSS;
  return `
  let lane = localIndex % ${LANES}u;
  let laneGroup = localIndex / ${LANES}u;
  let threadColumn = laneGroup % ${groupsAcross}u * ${LANES_ACROSS}u + lane / 2u % ${LANES_ACROSS}u;
  let threadRow = laneGroup / ${groupsAcross}u * ${lanesDown}u + lane / ${2 * LANES_ACROSS}u * 2u + lane % 2u;`;
}

/** The tile's row that is the invocation's i-th. */
export function outerRow(tile: ProductTile, i: number): string {
  const {threadsDown} = threadGrid(tile);
  return `4u * (${Math.floor(i / 4) * threadsDown}u + threadRow) + ${i % 4}u`;
}

/** A chunk of the left operand; `byInner` says whether the source's rows are inner elements. */
export function transferLeft(tile: ProductTile, source: Source, byInner: boolean): Transfer {
  return transferOperand(leftMemory(tile), tile.inner, source, byInner);
}

export function transferRight(tile: ProductTile, source: Source, byInner: boolean): Transfer {
  return transferOperand(rightMemory(tile), tile.inner, source, byInner);
}

/**
 * Moves a chunk of both operands in two steps. Where there is one item for each invocation, some take one operand and the
 * others the other: then they hold no more than that item.
 */
export function transferBoth(tile: ProductTile, left: Transfer, right: Transfer, name: string): Ahead {
  if (left.items + right.items !== threadGrid(tile).threads || left.values.length !== right.values.length) {
    const [ofLeft, ofRight] = [transferAhead(tile, left, `${name}Left`), transferAhead(tile, right, `${name}Right`)];
    return {
      declare: `${ofLeft.declare}\n${ofRight.declare}`,
      fetch: `${ofLeft.fetch}\n${ofRight.fetch}`,
      store: `${ofLeft.store}\n${ofRight.store}`,
    };
  }
  const held = left.values.map((_, c) => `${name}Ahead${c}`);
  const ofEither = (code: (transfer: Transfer) => string) => `
if (localIndex < ${left.items}u) {
  let item = localIndex;
  ${left.place}
  ${code(left)}
} else {
  let item = localIndex - ${left.items}u;
  ${right.place}
  ${code(right)}
}`;
  return {
    declare: lines(held.length, (c) => `var ${held[c]} = vec4f();`),
    fetch: ofEither(({values}) => lines(held.length, (c) => `${held[c]} = ${values[c]};`)),
    store: ofEither(({store}) => store(held)),
  };
}

function transferOperand(memory: OuterMemory, inner: number, source: Source, byInner: boolean): Transfer {
  const {name, length} = memory;
  if (byInner) {
    const quads = length / 4;
    return {
      items: inner * quads,
      place: `let inner = item / ${quads}u;
let quad = item % ${quads}u;`,
      values: [source.load('inner', 'quad')],
      store: ([value]) => `${name}[inner * ${stride(memory)}u + quad] = ${value};`,
    };
  }
  // Four rows at a time, because whole quads must be stored: a store of one component may write the others too, with what
  // they were before, and undo what other invocations store there.
  const innerQuads = inner / 4;
  return {
    items: (length / 4) * innerQuads,
    place: `let rowQuad = item / ${innerQuads}u;
let quad = item % ${innerQuads}u;`,
    values: range(4).map((r) => source.load(`4u * rowQuad + ${r}u`, 'quad')),
    store: (rows) =>
      lines(4, (c) => `${name}[(4u * quad + ${c}u) * ${stride(memory)}u + rowQuad] = ${componentsOf(rows, c)};`),
  };
}

/** `${sum}${i}_${n}` += the product of the chunks in memory, for row i and column quad n of the invocation. */
export function multiplyOuter(tile: ProductTile, sum: string): string {
  const {threadsDown, threadsAcross} = threadGrid(tile);
  const [left, right] = [leftMemory(tile), rightMemory(tile)];
  const [rowQuads, columnQuads] = [tile.threadRows / 4, tile.threadColumns / 4];
  return lines(tile.inner, (inner) => {
    const loads = [
      ...range(rowQuads).map(
        (m) => `let left${m} = ${left.name}[${inner * stride(left) + m * threadsDown}u + threadRow];`,
      ),
      ...range(columnQuads).map(
        (n) => `let right${n} = ${right.name}[${inner * stride(right) + n * threadsAcross}u + threadColumn];`,
      ),
    ];
    const sums = range(tile.threadRows).flatMap((i) =>
      range(columnQuads).map((n) => {
        const factor = `left${Math.floor(i / 4)}.${'xyzw'[i % 4]}`;
        return `${sum}${i}_${n} = fma(vec4f(${factor}), right${n}, ${sum}${i}_${n});`;
      }),
    );
    return `{\n${[...loads, ...sums].join('\n')}\n}`;
  });
}
