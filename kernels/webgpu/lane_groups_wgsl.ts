/**
 * WGSL emitters for attention kernels in which neighbouring lanes of a SIMD group (a "subgroup") share rows of the score
 * matrix: a lane group of G lanes has four rows, and each lane every G-th quad of their elements, in registers. So a quad
 * of a column that is loaded from workgroup memory serves four rows, and neither scores nor probabilities go through
 * workgroup memory: products over the head dimension are summed over the group by shuffles.
 *
 * A group takes as many columns at once as it has quartets of lanes. The 4·G/4 scores that these columns have with the
 * four rows come to lie on one lane each, its own row and its own column, so that softmax is computed once per score.
 *
 * Which row a register holds differs from lane to lane, so that lanes exchange registers of the same name: slot j of lane
 * g holds row j ^ (g mod 4), and slot c of the columns holds column c ^ ⌊g / 4⌋. In its own slot 0 a lane finds its own
 * row and column.
 */
import type {GroupTile} from './lane_group_tiles.js';
import {lines, range, type Source, spread} from './tile_wgsl.js';

/** Rows of a lane group. */
export const GROUP_ROWS = 4;

/** WGSL that must come before all else of a module with these emitters. */
export const groupDirectives = `enable subgroups;
// Whether a subgroup leaves out a tile depends on its own rows only; barriers stand outside of that.
diagnostic(off, subgroup_uniformity);`;

/** What matters of a tile where rows are spread over the lanes of a group. */
type Lanes = Pick<GroupTile, 'lanes'>;

/** Quads of a row of so many elements that each lane of a group holds. */
export function quadsPerLane({lanes}: Lanes, depth: number): number {
  return Math.ceil(Math.ceil(depth / 4) / lanes);
}

/** Columns that a group takes at once. */
export function columnsAtOnce({lanes}: GroupTile): number {
  return lanes / 4;
}

/**
 * Where a lane stands: `lane` in its group, `groupRow`, the first row of its group, and `ownRow` and `ownColumn`, of its
 * slots 0. Needs `rowStart`.
 */
export function enterGroup({lanes}: GroupTile): string {
  return `
  let lane = localIndex % ${lanes}u;
  let rowSlot = lane % ${GROUP_ROWS}u;
  let ownColumn = lane / ${GROUP_ROWS}u;
  let groupRow = rowStart + localIndex / ${lanes}u * ${GROUP_ROWS}u;
  let ownRow = groupRow + rowSlot;
  // The remainder says no more than the bits do, but to compilers that clamp indices (see overColumnsOfTile).
  ${lines(lanes / 4, (c) => `let columnOfSlot${c} = (${c}u ^ ownColumn) % ${lanes / 4}u;`)}`;
}

/** The rows of all lane groups of this subgroup: `subgroupFirst` to `subgroupLast`. Needs `subgroupSize`. */
export function enterSubgroup({lanes}: GroupTile): string {
  return `
  let subgroupFirst = rowStart + localIndex / subgroupSize * subgroupSize / ${lanes}u * ${GROUP_ROWS}u;
  let subgroupLast = subgroupFirst + max(subgroupSize / ${lanes}u, 1u) * ${GROUP_ROWS}u - 1u;`;
}

/** The row of slot j. */
export function rowOf(j: number): string {
  return `(groupRow + (${j}u ^ rowSlot))`;
}

/** The lane's n-th quad. */
export function quadOf({lanes}: Lanes, n: number): string {
  return `(${n * lanes}u + lane)`;
}

/** Runs code for each register `[row slot]_[quad]` of rows of so many elements. */
export function eachRegister(tile: GroupTile, depth: number, code: (j: number, n: number) => string): string {
  return lines(GROUP_ROWS, (j) => lines(quadsPerLane(tile, depth), (n) => code(j, n)));
}

/** Declares `${name}${j}_${n}` with the group's rows of a source. */
export function keepRows(tile: GroupTile, depth: number, name: string, source: Source): string {
  return eachRegister(tile, depth, (j, n) => `let ${name}${j}_${n} = ${source.load(rowOf(j), quadOf(tile, n))};`);
}

/** Declares `${name}${j}_${n}`, zeroed. */
export function declareRows(tile: GroupTile, depth: number, name: string): string {
  return eachRegister(tile, depth, (j, n) => `var ${name}${j}_${n} = vec4f();`);
}

/** Stores the group's rows, those below `limit`. `store` stores a quad of a row. */
export function storeGroupRows(
  tile: GroupTile,
  depth: number,
  limit: string,
  store: (row: string, quad: string, j: number, n: number) => string,
): string {
  const quads = Math.ceil(depth / 4);
  return eachRegister(tile, depth, (j, n) => {
    const past = (n + 1) * tile.lanes <= quads ? '' : ` & (${quadOf(tile, n)} < ${quads}u)`;
    return `if ((${rowOf(j)} < ${limit})${past}) { ${store(rowOf(j), quadOf(tile, n), j, n)} }`;
  });
}

/** A tile of columns in workgroup memory, `tile.columns` rows of their elements. */
export interface ColumnMemory {
  name: string;
  depth: number;
}

/** Quads from column to column: what the lanes of a group hold, some of them past the depth and 0. */
function columnStride(tile: GroupTile, {depth}: ColumnMemory): number {
  return quadsPerLane(tile, depth) * tile.lanes;
}

export function columnMemoryBytes(tile: GroupTile, depth: number): number {
  return tile.columns * quadsPerLane(tile, depth) * tile.lanes * 16;
}

export function declareColumns(tile: GroupTile, memory: ColumnMemory): string {
  return `var<workgroup> ${memory.name}: array<vec4f, ${tile.columns * columnStride(tile, memory)}>;`;
}

/** Loads the columns from `columnStart` on. */
export function loadColumnTile(tile: GroupTile, memory: ColumnMemory, source: Source): string {
  const stride = columnStride(tile, memory);
  return spread(
    tile.threads,
    tile.columns * stride,
    MOST_LOADS_UNROLLED,
    `${memory.name}[item] = ${source.load(`columnStart + item / ${stride}u`, `item % ${stride}u`)};`,
  );
}

const MOST_LOADS_UNROLLED = 8;

/**
 * A loop over the columns in workgroup memory, `tile.unrolled` of them in each step; `column` is the first of a step. It counts
 * one by one, from a constant to a constant, because then Chromium's compiler knows what indices can become. Elsewhere it
 * clamps each of them, which took a sixteenth of the forward kernel's time on an H200.
 */
export function overColumnsOfTile(tile: GroupTile, body: string): string {
  return `for (var step = 0u; step < ${tile.columns / tile.unrolled}u; step++) {
    let column = step * ${tile.unrolled}u;
    ${body}
  }`;
}

/** Declares `${name}_${n}`, the lane's quads of column slot c of those from `column` on. */
export function readColumn(tile: GroupTile, memory: ColumnMemory, name: string, column: string, c: number): string {
  const stride = columnStride(tile, memory);
  const slot = columnsAtOnce(tile) === 1 ? column : `(${column} + columnOfSlot${c})`;
  return lines(
    quadsPerLane(tile, memory.depth),
    (n) => `let ${name}_${n} = ${memory.name}[${slot} * ${stride}u + ${quadOf(tile, n)}];`,
  );
}

/** The value of the lane whose number differs in these bits. Within a quartet some devices are faster than by shuffle. */
function exchanged(value: string, bits: number): string {
  const inQuartet = ['', 'quadSwapX', 'quadSwapY', 'quadSwapDiagonal'];
  return bits < 4 ? `${inQuartet[bits]}(${value})` : `subgroupShuffleXor(${value}, ${bits}u)`;
}

/** Declares `${name}`: the lane's part of the product of its row and column slots, as one chain of multiply-adds. */
export function partialDot(tile: Lanes, depth: number, name: string, row: string, column: string): string {
  const terms = range(quadsPerLane(tile, depth)).flatMap((n) =>
    [...'xyzw'].map((c) => [`${row}_${n}.${c}`, `${column}_${n}.${c}`]),
  );
  const [[a, b], ...rest] = terms;
  return `let ${name} = ${rest.reduce((sum, [x, y]) => `fma(${x}, ${y}, ${sum})`, `${a} * ${b}`)};`;
}

/**
 * Declares `${name}`, the lane's own score, from its parts `part(c, j)` of all columns c and rows j: with each exchange,
 * lanes give away half of what they hold and add what they get to the other half.
 */
export function sumOverGroup(tile: GroupTile, name: string, part: (c: number, j: number) => string): string {
  const code: string[] = [];
  let held = range(columnsAtOnce(tile)).map((c) => range(GROUP_ROWS).map((j) => part(c, j)));
  for (let half = held.length / 2; half >= 1; half /= 2) {
    held = range(half).map((c) =>
      range(GROUP_ROWS).map((j) => {
        const sum = `${name}${half}_${c}_${j}`;
        code.push(`let ${sum} = ${held[c][j]} + ${exchanged(held[c + half][j], 4 * half)};`);
        return sum;
      }),
    );
  }
  const [row] = held;
  code.push(
    `let ${name} = (${row[0]} + ${exchanged(row[1], 1)}) + ${exchanged(`(${row[2]} + ${exchanged(row[3], 1)})`, 2)};`,
  );
  return code.join('\n');
}

/** Declares `${name}${j}`: from the lanes' own values, those of column slot c and row slots j. */
export function spreadOverGroup(name: string, own: string, c: number): string {
  return lines(GROUP_ROWS, (j) => `let ${name}${j} = ${4 * c + j === 0 ? own : exchanged(own, 4 * c + j)};`);
}

/** The result of a commutative `combine` over the lanes that have the same row, for each of them. */
export function overColumns(tile: GroupTile, value: string, combine: (a: string, b: string) => string): string {
  const code: string[] = [];
  for (let bits = 4; bits < tile.lanes; bits *= 2) code.push(`${value} = ${combine(value, exchanged(value, bits))};`);
  return code.join('\n');
}
