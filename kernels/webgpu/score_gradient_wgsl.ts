/**
 * WGSL that recomputes one tile of probabilities and makes its gradient, the common core of all backward kernels
 * (FlashAttention, algorithm 4): P = exp(S − reference) / sum, dP = dO·Vᵀ, dS = P ∘ (dP − delta).
 *
 * The tile's rows are queries in the kernels for dQ and dBias and keys in the one for dK and dV, so that each kernel
 * accumulates along its rows and none needs atomics. What follows calls the two sides "rows" and "columns".
 */
import {
  type AttentionVariant,
  dropoutFunction,
  headBase,
  headFunctions,
  loadFunction,
  type Operand,
  operandBinding,
  operandSource,
  optionalBindings,
  scoreFunctions,
} from './attention_wgsl.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, type TileArea} from './live_tiles_wgsl.js';
import {statsFunction} from './row_stats.js';
import type {Binding} from './shader.js';
import {keepLeft, leftOperand, multiplyTransposed} from './tile_products.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {
  addProductFunction,
  declareAccumulators,
  declareColumnMemory,
  declareRowMemory,
  lines,
  type RowMemory,
  range,
  rowMemoryBytes,
  type Source,
} from './tile_wgsl.js';

/** What kernels read that make gradients of these operands' scores. */
export function gradientInputs(variant: AttentionVariant, operands: Operand[]): Binding[] {
  return [
    ...operands.map((operand) => operandBinding(variant, operand, 'read')),
    {name: 'stats', access: 'read', element: 'vec4f'},
    ...optionalBindings(variant),
    ...liveTilesBinding(variant),
  ];
}

/** WGSL functions that load the operands, and that make scores, and hide and drop them. */
export function gradientFunctions(variant: AttentionVariant, operands: Operand[]): string {
  return `
${operands.map((operand) => loadFunction(variant, operand)).join('')}
${headFunctions(variant, 'stats')}
${statsFunction}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}`;
}

export type RowsAre = 'queries' | 'keys';

/** The emitters of one backward kernel; code that uses them declares the variables named in each comment. */
export interface ScoreGradient {
  /** The score matrix's weights (P or dS) on their way into a weighted sum. */
  weights: RowMemory;
  /** The buffers that the emitted code reads. */
  bindings: Binding[];
  /** Module-scope declarations and functions. */
  declarations: string;
  /**
   * `head` and the limits of its operands; where rows are queries, their bases too (the kernel whose rows are keys goes
   * over several heads from the same k and v). Needs `batch` and `headOfQuery`.
   */
  enterHead: string;
  /** Keeps the row operands in workgroup memory where they fit. Needs `rowStart`. */
  keepRows: string;
  /**
   * Leaves P in s… (after dropout, unless the gradient is that of the scores) and its gradient in d…. Needs
   * `rowStart`, `columnStart`. Column memory is still in use afterwards.
   */
  tile: string;
  /** The column operand that goes with S (k, or q) and the one that goes with dP (v, or dOutput). */
  scoreColumns: Source;
  valueColumns: Source;
}

/** Where each operand's rows begin, and how many there are, in WGSL variables. */
function source(operand: Operand, rowsAre: RowsAre): Source {
  return operandSource(operand, `${operand}Base`, rowsAre === 'queries' ? 'queryLimit' : 'keyLimit');
}

function operands(variant: AttentionVariant, tile: TileSizes, rowsAre: RowsAre) {
  const queries = {score: source('q', 'queries'), value: source('dOutput', 'queries')};
  const keys = {score: source('k', 'keys'), value: source('v', 'keys')};
  const [rows, columns] = rowsAre === 'queries' ? [queries, keys] : [keys, queries];
  const scoreRows = leftOperand(tile, variant.depth, 'scoreRowMemory', rows.score);
  const valueRows = leftOperand(tile, variant.valueDepth, 'valueRowMemory', rows.value);
  // Operands that are loaded anew for each product, one after the other, can pass through the same memory.
  const shared = !scoreRows.kept && !valueRows.kept && scoreRows.memory.quads === valueRows.memory.quads;
  if (shared) valueRows.memory = scoreRows.memory;
  const memories = shared ? [scoreRows.memory] : [scoreRows.memory, valueRows.memory];
  return {scoreRows, valueRows, memories, scoreColumns: columns.score, valueColumns: columns.value};
}

/** Bytes of workgroup memory that the emitted code takes. */
export function scoreGradientBytes(variant: AttentionVariant, tile: TileSizes): number {
  const {memories} = operands(variant, tile, 'queries');
  const rowQuads = [...memories.map(({quads}) => quads), tile.columns / 4];
  return rowQuads.reduce((bytes, quads) => bytes + rowMemoryBytes(tile, quads), tile.columnFloats * 4);
}

/**
 * What the d… variables are the gradient of: the dot products q·k but for the scale; the scores, to which biases are
 * added after the softcap; or nothing, for a kernel that only wants P.
 */
export type GradientOf = 'dots' | 'scores' | 'nothing';

export function scoreGradient(
  variant: AttentionVariant,
  tile: TileSizes,
  rowsAre: RowsAre,
  gradientOf: GradientOf,
): ScoreGradient {
  const needsGradient = gradientOf !== 'nothing';
  const {scoreRows, valueRows, memories, scoreColumns, valueColumns} = operands(variant, tile, rowsAre);
  const enterBases = `let qBase = ${headBase(variant, 'q', 'batch', 'headOfQuery')};
let dOutputBase = ${headBase(variant, 'dOutput', 'batch', 'headOfQuery')};
let kBase = ${headBase(variant, 'k', 'batch', 'head.keyHead')};
let vBase = ${headBase(variant, 'v', 'batch', 'head.keyHead')};`;
  const weights = {name: 'weightMemory', quads: tile.columns / 4};
  const read: Operand[] = needsGradient ? ['q', 'k', 'v', 'dOutput'] : ['q', 'k', 'dOutput'];
  return {
    weights,
    scoreColumns,
    valueColumns,
    bindings: gradientInputs(variant, read),
    declarations: `
${memories.map((memory) => declareRowMemory(tile, memory)).join('\n')}
${declareRowMemory(tile, weights)}
${declareColumnMemory(tile)}
${addProductFunction}
${gradientFunctions(variant, read)}`,
    enterHead: `
let head = makeHead(batch, headOfQuery);
let queryLimit = u32(head.queryLength);
let keyLimit = u32(head.keyLength);
${rowsAre === 'queries' ? enterBases : ''}`,
    keepRows: `${keepLeft(tile, scoreRows, 'rowStart')}
${needsGradient ? keepLeft(tile, valueRows, 'rowStart') : ''}`,
    tile: `
${declareAccumulators(tile, 's', tile.threadColumns / 4)}
${multiplyTransposed(tile, variant.depth, 's', scoreRows, 'rowStart', scoreColumns, 'columnStart')}
${
  needsGradient
    ? `${declareAccumulators(tile, 'd', tile.threadColumns / 4)}
${multiplyTransposed(tile, variant.valueDepth, 'd', valueRows, 'rowStart', valueColumns, 'columnStart')}`
    : ''
}
${gradientOfTile(variant, tile, rowsAre, gradientOf, (i) => rowInOrder(tile, i))}`,
  };
}

/** WGSL of the invocation's i-th row; four of these from a multiple of four on are neighbours. */
export type RowOf = (i: number) => string;

const rowInOrder = (tile: TileSizes, i: number) => `rowStart + threadRow * ${tile.threadRows}u + ${i}u`;

/** From s…, the dots, and d…, dP, what {@link ScoreGradient.tile} leaves there. Needs `head` and `columnStart`. */
export function gradientOfTile(
  variant: AttentionVariant,
  tile: TileSizes,
  rowsAre: RowsAre,
  gradientOf: GradientOf,
  rowOf: RowOf,
): string {
  const probabilities = rowsAre === 'queries' ? probabilitiesOfQueryRows : probabilitiesOfKeyRows;
  return probabilities(variant, tile, gradientOf, rowOf);
}

function columnQuad(tile: TileSizes, n: number): string {
  const {threadsAcross} = threadGrid(tile);
  return `(columnStart / 4u + ${n * threadsAcross}u + threadColumn)`;
}

/** The four columns of the invocation's n-th quad. Needs `columnStart`. */
export const columnsOfQuad = (tile: TileSizes, n: number) => `(4 * i32${columnQuad(tile, n)} + vec4i(0, 1, 2, 3))`;

/**
 * From dots and dP to P and dS, one quad. `hidden`, `query`, `key`, `reference`, `share` (1 / sum), `delta` and, with
 * dropout, `keep` are in scope.
 */
export function gradientOfQuad(
  variant: AttentionVariant,
  tile: TileArea,
  s: string,
  d: string,
  gradientOf: GradientOf,
): string {
  return `
  var scores = scoresOf(head, ${s}, query, key);
  if (hidden) { scores = hideInvisible(head, scores, query, key); }
  ${hideDeadIn(variant, tile, 'scores = hideDead(head, scores, query, key);')}
  ${weighQuad(variant, 'scores', s, d, gradientOf)}`;
}

/** The same from scores, with what is hidden hidden, on; `${s}` holds the dots if there is a softcap. */
function weighQuad(variant: AttentionVariant, scores: string, s: string, d: string, gradientOf: GradientOf): string {
  const keep = variant.dropout ? ' * keep' : '';
  const slope = variant.softcap && gradientOf === 'dots' ? ` * softcapSlope(${s})` : '';
  return `let p = exp2(${scores} - reference) * share;
  ${gradientOf === 'nothing' ? '' : `${d} = p * (${d}${keep} - delta)${slope};`}
  ${s} = p${gradientOf === 'scores' ? '' : keep};`;
}

/** {@link gradientOfQuad} for all quads of an invocation; `place` declares what that needs but for `hidden`. */
function gradientOfQuads(
  variant: AttentionVariant,
  tile: TileSizes,
  gradientOf: GradientOf,
  place: (i: number, n: number) => string,
): string {
  const eachQuad = (code: (s: string, d: string) => string) =>
    lines(tile.threadRows, (i) =>
      lines(tile.threadColumns / 4, (n) => `{${place(i, n)}\n${code(`s${i}_${n}`, `d${i}_${n}`)}}`),
    );
  if (variant.softcap) return eachQuad((s, d) => gradientOfQuad(variant, tile, s, d, gradientOf));
  // One branch for all of them: after each score it would keep compilers from moving others ahead.
  return `
${eachQuad((s) => `${s} = scoresOf(head, ${s}, query, key);`)}
if (hidden) {
${eachQuad((s) => `${s} = hideInvisible(head, ${s}, query, key);`)}
}
${hideDeadIn(
  variant,
  tile,
  eachQuad((s) => `${s} = hideDead(head, ${s}, query, key);`),
)}
${eachQuad((s, d) => weighQuad(variant, s, s, d, gradientOf))}`;
}

function probabilitiesOfQueryRows(
  variant: AttentionVariant,
  tile: TileSizes,
  gradientOf: GradientOf,
  rowOf: RowOf,
): string {
  return `
let hidden = hasHidden(head, i32(rowStart), i32(rowStart) + ${tile.rows}, i32(columnStart), i32(columnStart) + ${tile.columns});
${gradientOfQuads(
  variant,
  tile,
  gradientOf,
  (i, n) => `
  let query = vec4i(i32(${rowOf(i)}));
  let key = ${columnsOfQuad(tile, n)};
  let reference = rowStats${i}.x;
  let share = rowStats${i}.y;
  let delta = rowStats${i}.z;
  ${variant.dropout ? `let keep = keepOf(head, u32(query.x), ${columnQuad(tile, n)});` : ''}`,
)}`;
}

function probabilitiesOfKeyRows(
  variant: AttentionVariant,
  tile: TileSizes,
  gradientOf: GradientOf,
  rowOf: RowOf,
): string {
  const quads = tile.threadColumns / 4;
  const columnStats = lines(
    quads,
    (n) => `
${lines(4, (c) => `let stats${c}_${n} = statsOf(head, 4u * ${columnQuad(tile, n)} + ${c}u);`)}
let reference${n} = vec4f(${range(4).map((c) => `stats${c}_${n}.x`)});
let share${n} = vec4f(${range(4).map((c) => `stats${c}_${n}.y`)});
let delta${n} = vec4f(${range(4).map((c) => `stats${c}_${n}.z`)});`,
  );
  // The generator makes four neighbouring keys at a time, which here lie along the rows.
  const keepQuads = lines(tile.threadRows / 4, (group) =>
    lines(quads, (n) =>
      lines(
        4,
        (c) =>
          `let keep${group}_${n}_${c} = keepOf(head, 4u * ${columnQuad(tile, n)} + ${c}u, (${rowOf(4 * group)}) / 4u);`,
      ),
    ),
  );
  const keepOfRow = (i: number, n: number) =>
    `vec4f(${range(4).map((c) => `keep${Math.floor(i / 4)}_${n}_${c}.${'xyzw'[i % 4]}`)})`;
  return `
let hidden = hasHidden(head, i32(columnStart), i32(columnStart) + ${tile.columns}, i32(rowStart), i32(rowStart) + ${tile.rows});
${columnStats}
${variant.dropout ? keepQuads : ''}
${gradientOfQuads(
  variant,
  tile,
  gradientOf,
  (i, n) => `
  let query = ${columnsOfQuad(tile, n)};
  let key = vec4i(i32(${rowOf(i)}));
  let reference = reference${n};
  let share = share${n};
  let delta = delta${n};
  ${variant.dropout ? `let keep = ${keepOfRow(i, n)};` : ''}`,
)}`;
}

/** Declares `rowStats${i}` of the invocation's query rows. Needs `head` and `rowStart`. */
export function declareRowStats(tile: TileSizes, rowOf: RowOf = (i) => rowInOrder(tile, i)): string {
  return lines(tile.threadRows, (i) => `let rowStats${i} = statsOf(head, ${rowOf(i)});`);
}
