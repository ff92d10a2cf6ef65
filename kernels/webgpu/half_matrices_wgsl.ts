/**
 * WGSL emitters for attention kernels that multiply in float16 by subgroup matrices, with float32 sums. Each subgroup has
 * 16 rows of the score matrix: their operands stay in registers as left matrices, those of the columns pass through
 * workgroup memory 16 at a time, and are there as float16 for the whole workgroup.
 *
 * WGSL does not say which lane has which element of a matrix, so what is done element by element goes through workgroup
 * memory too: a subgroup's matrix of float32 scores ("stage"), of which a lane then has, in two rows, a quad of columns;
 * and what it makes of them, float16 again, on its way back into a left matrix ("weights").
 *
 * Vulkan wants matrices at multiples of 16 bytes, WGSL only that arrays of vec4<f16> begin at multiples of 8, and a driver
 * believed the former of what was not so. Therefore all that these kernels have in workgroup memory is of whole 16 bytes.
 */
import {type AttentionVariant, type Operand, operandDepth} from './attention_wgsl.js';
import type {ColumnMemory} from './half_columns_wgsl.js';
import {columnBytes, columnMatrix, declareColumns, matricesOf, PADDING} from './half_columns_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import {lines, range, type Source} from './tile_wgsl.js';

/** WGSL that must come before all else of a module with these emitters. */
export const halfDirectives = `enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
requires subgroup_id;
// Subgroups are whole, and what they branch on is the same for all of their lanes.
diagnostic(off, chromium.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);`;

/** Built-ins that the emitted code reads. */
export const halfBuiltins = ['@builtin(subgroup_id) subgroup: u32', '@builtin(subgroup_invocation_id) lane: u32'];

const LEFT = `subgroup_matrix_left<f16, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;
const RESULT = `subgroup_matrix_result<f32, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;

/** Rows of a stage that a lane has a quad of: these apart. */
const LANE_ROWS = 2;
const ROWS_APART = MATRIX_SIZE / LANE_ROWS;
/** The lane's rows, as the emitters number them. */
export const laneRows = range(LANE_ROWS);

/** A subgroup's matrices of scores side by side: one in the forward kernel, S and dP in the gradients. */
export interface Stage {
  /** Matrices of float32, and of float16. */
  scores: number;
  weights: number;
}

const rowOf = (matrices: number) => matrices * MATRIX_SIZE + PADDING;

/** Quads of workgroup memory for so many matrices of each subgroup; nothing follows the last row. */
function stageQuads({subgroups}: HalfTile, matrices: number): number {
  return (subgroups * MATRIX_SIZE * rowOf(matrices) - PADDING) / 4;
}

/** Bytes of workgroup memory that {@link declareHalfMemory} takes. */
export function halfBytes(tile: HalfTile, stage: Stage, columns: ColumnMemory[]): number {
  const ofColumns = columns.reduce((bytes, column) => bytes + columnBytes(column), 0);
  return 16 * stageQuads(tile, stage.scores) + 8 * stageQuads(tile, stage.weights) + ofColumns;
}

export function declareHalfMemory(tile: HalfTile, stage: Stage, columns: ColumnMemory[]): string {
  return `
var<workgroup> scoreStage: array<vec4f, ${stageQuads(tile, stage.scores)}>;
var<workgroup> weightStage: array<vec4<f16>, ${stageQuads(tile, stage.weights)}>;
${columns.map(declareColumns).join('\n')}`;
}

/**
 * Declares where a lane stands: `firstRow`, of its subgroup, `ownQuad`, of the 16 columns, and `ownRow${i}`. Neighbouring
 * quartets of lanes have every second row, so that what eight lanes load at once lies in different banks. Needs `rowStart`.
 */
export function enterHalfTile(): string {
  return `
  let firstRow = rowStart + subgroup * ${MATRIX_SIZE}u;
  let ownQuad = lane % 4u;
  let rowInStage = lane / 4u % 4u * 2u + lane / 16u;
  ${laneRows.map((i) => `let ownRow${i} = firstRow + rowInStage + ${i * ROWS_APART}u;`).join('\n')}`;
}

const stageMemory = {scores: 'scoreStage', weights: 'weightStage'} as const;
type StageOf = keyof typeof stageMemory;

/** The lane's quad in its i-th row of matrix m of the stage. */
function laneQuad(stage: Stage, of: StageOf, m: number, i: number): string {
  const quads = rowOf(stage[of]) / 4;
  const row = `(subgroup * ${MATRIX_SIZE}u + rowInStage + ${i * ROWS_APART}u)`;
  return `${stageMemory[of]}[${row} * ${quads}u + ${(m * MATRIX_SIZE) / 4}u + ownQuad]`;
}

export const scoreQuad = (stage: Stage, m: number, i: number) => laneQuad(stage, 'scores', m, i);
export const weightQuad = (stage: Stage, m: number, i: number) => laneQuad(stage, 'weights', m, i);

/** WGSL arguments `pointer, offset, stride` of the subgroup's matrix m of the stage. */
function matrixInStage(stage: Stage, of: StageOf, m: number): {pointer: string; offset: string; stride: string} {
  const quads = rowOf(stage[of]) / 4;
  return {
    pointer: `&${stageMemory[of]}`,
    offset: `subgroup * ${MATRIX_SIZE * quads}u + ${(m * MATRIX_SIZE) / 4}u`,
    stride: `${quads}u`,
  };
}

export function storeResult(stage: Stage, m: number, matrix: string): string {
  const {pointer, offset, stride} = matrixInStage(stage, 'scores', m);
  return `subgroupMatrixStore<row_major>(${pointer}, ${offset}, ${matrix}, ${stride});`;
}

export function loadResult(stage: Stage, m: number): string {
  const {pointer, offset, stride} = matrixInStage(stage, 'scores', m);
  return `subgroupMatrixLoad<${RESULT}, row_major>(${pointer}, ${offset}, ${stride})`;
}

export function loadWeights(stage: Stage, m: number): string {
  const {pointer, offset, stride} = matrixInStage(stage, 'weights', m);
  return `subgroupMatrixLoad<${LEFT}, row_major>(${pointer}, ${offset}, ${stride})`;
}

/** Declares the left matrices `${name}${d}` of the subgroup's rows, by way of the weights' memory. */
export function keepHalfRows(stage: Stage, depth: number, name: string, source: Source): string {
  return lines(
    matricesOf(depth),
    (d) => `
  ${lines(LANE_ROWS, (i) => `${weightQuad(stage, 0, i)} = vec4<f16>(${source.load(`ownRow${i}`, `${(d * MATRIX_SIZE) / 4}u + ownQuad`)});`)}
  workgroupBarrier();
  let ${name}${d} = ${loadWeights(stage, 0)};
  workgroupBarrier();`,
  );
}

/** Declares the sums `${name}${d}` of as many columns as the depth has, zeroed. */
export function declareResults(depth: number, name: string): string {
  return lines(matricesOf(depth), (d) => `var ${name}${d} = ${RESULT}();`);
}

/** Sets the sums of {@link declareResults} to zero again. */
export function zeroResults(depth: number, name: string): string {
  return lines(matricesOf(depth), (d) => `${name}${d} = ${RESULT}();`);
}

/** Declares `${name}`: rows · columnsᵀ, of the matrices that {@link keepHalfRows} has declared, and the columns in a buffer. */
export function multiplyByColumns(name: string, rows: string, columns: ColumnMemory, buffer = 'buffer'): string {
  const step = (d: number) =>
    `${name} = subgroupMatrixMultiplyAccumulate(${rows}${d}, ${columnMatrix(columns, d, 'col_major', buffer)}, ${name});`;
  return `var ${name} = ${RESULT}();\n${lines(matricesOf(columns.depth), step)}`;
}

/** ${sums} += weights · columns, with the stage's matrix m of weights. */
export function addWeightedColumns(stage: Stage, m: number, sums: string, columns: ColumnMemory): string {
  const step = (d: number) =>
    `${sums}${d} = subgroupMatrixMultiplyAccumulate(weights, ${columnMatrix(columns, d, 'row_major', 'buffer')}, ${sums}${d});`;
  return `{
    let weights = ${loadWeights(stage, m)};
    ${lines(matricesOf(columns.depth), step)}
  }`;
}

/** Runs code for sums that lie in the stage one matrix after the other; `code` gets the quad and its column in quads. */
export function eachStagedResult(
  stage: Stage,
  depth: number,
  sums: string,
  code: (quad: string, i: number, column: string) => string,
  after: (d: number) => string = () => '',
): string {
  return lines(
    matricesOf(depth),
    (d) => `
    workgroupBarrier();
    ${storeResult(stage, 0, `${sums}${d}`)}
    workgroupBarrier();
    ${lines(LANE_ROWS, (i) => code(scoreQuad(stage, 0, i), i, `(${(d * MATRIX_SIZE) / 4}u + ownQuad)`))}
    ${after(d)}`,
  );
}

/** Stores the subgroup's sums, rows below `limit`; `value` makes of a quad of a row what is stored. */
export function storeHalfRows(
  variant: AttentionVariant,
  stage: Stage,
  operand: Operand,
  {sums, base, limit}: {sums: string; base: string; limit: string},
  value: (quad: string, i: number) => string,
): string {
  const depth = operandDepth(variant, operand);
  const quads = Math.ceil(depth / 4);
  return eachStagedResult(stage, depth, sums, (quad, i, column) => {
    return `if ((ownRow${i} < ${limit}) & (${column} < ${quads}u)) {
      store_${operand}(${base}, ownRow${i}, ${column}, ${value(quad, i)});
    }`;
  });
}
