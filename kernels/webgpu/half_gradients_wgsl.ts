/**
 * WGSL of the kernels for dQ and for dK and dV that multiply in float16 (half_matrices_wgsl.ts): what query_gradient_wgsl.ts
 * and key_value_gradient_wgsl.ts do. dOutput is scaled so that the largest of a head's elements is near 1 (gradient_scale.ts),
 * because gradients are often smaller than float16 can tell from 0.
 */
import {
  type AttentionVariant,
  attentionShader,
  type Operand,
  operandBinding,
  operandSource,
  storeFunction,
} from './attention_wgsl.js';
import type {ColumnMemory} from './half_columns_wgsl.js';
import {ColumnsAhead, type HalfOperand} from './half_columns_wgsl.js';
import {
  addWeightedColumns,
  declareHalfMemory,
  declareResults,
  enterHalfTile,
  halfBuiltins,
  halfBytes,
  halfDirectives,
  keepHalfRows,
  laneRows,
  multiplyByColumns,
  type Stage,
  scoreQuad,
  storeHalfRows,
  storeResult,
  weightQuad,
} from './half_matrices_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import {numberedTiles} from './live_tiles_wgsl.js';
import {elementFunctions} from './score_elements_wgsl.js';
import {gradientFunctions, gradientInputs, gradientOfQuad} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {range, type Source} from './tile_wgsl.js';
import {enterKeyRows, enterMember, enterQueryRows} from './turns_wgsl.js';

/** S and dP; dS, and for dV also P. */
const queryStage: Stage = {scores: 2, weights: 1};
const keyValueStage: Stage = {scores: 2, weights: 2};

/** The columns in workgroup memory that go with S (k, or q) and with dP (v, or dOutput). */
function columnMemories({depth, valueDepth}: AttentionVariant): {score: ColumnMemory; value: ColumnMemory} {
  return {score: {name: 'scoreColumns', depth}, value: {name: 'valueColumns', depth: valueDepth}};
}

export function halfQueryGradientBytes(variant: AttentionVariant, tile: HalfTile): number {
  return halfBytes(tile, queryStage, Object.values(columnMemories(variant)));
}

export function halfKeyValueGradientBytes(variant: AttentionVariant, tile: HalfTile): number {
  return halfBytes(tile, keyValueStage, Object.values(columnMemories(variant))) + 2 * tile.columns * 16;
}

const operands: Operand[] = ['q', 'k', 'v', 'dOutput'];

function declarations(variant: AttentionVariant, tile: HalfTile, stage: Stage, ahead: ColumnsAhead): string {
  return `
${declareHalfMemory(tile, stage, Object.values(columnMemories(variant)))}
${gradientFunctions(variant, operands)}
${ahead.functions(variant)}
${elementFunctions(variant)}`;
}

const scaledGradient: Source = {
  load: (row, quad) => `gradientScale * ${operandSource('dOutput', 'dOutputBase', 'queryLimit').load(row, quad)}`,
};

/** Declares the matrices S and dP of the subgroup's rows with the columns in a buffer. */
function scoresOfColumns({score, value}: {score: ColumnMemory; value: ColumnMemory}, buffer: string): string {
  return `${multiplyByColumns('s', 'scoreRows', score, buffer)}
    ${multiplyByColumns('dp', 'valueRows', value, buffer)}`;
}

const storeScores = (stage: Stage) => `${storeResult(stage, 0, 's')}
    ${storeResult(stage, 1, 'dp')}`;

/**
 * Goes over the tiles: `elements` makes weights of the scores in the stage, and `sums` adds them up with the columns. The
 * next tile's scores are made meanwhile; behind the last there are some of no use. `seenByAll` are the columns that all
 * rows see.
 */
function overTiles(
  variant: AttentionVariant,
  ahead: ColumnsAhead,
  stage: Stage,
  seenByAll: string,
  elements: (mayHide: boolean) => string,
  sums: string,
): string {
  const columns = columnMemories(variant);
  const body = (mayHide: boolean) => `
    ${elements(mayHide)}
    ${ahead.storeNext}
    workgroupBarrier();
    ${ahead.loadAhead}
    {
      let following = 1u - buffer;
      ${scoresOfColumns(columns, 'following')}
      ${sums}
      ${storeScores(stage)}
    }
    workgroupBarrier();`;
  return `{
    ${scoresOfColumns(columns, '0u')}
    ${storeScores(stage)}
  }
  workgroupBarrier();
  ${
    // Tiles of a layout come in any order.
    variant.layout
      ? ahead.overTiles(body(true))
      : `${ahead.declareWhole(seenByAll)}\n  ${ahead.overWholeAndOtherTiles(body)}`
  }`;
}

export function halfQueryGradientShader(variant: AttentionVariant, tile: HalfTile): Shader {
  const {depth, valueDepth} = variant;
  const columns = columnMemories(variant);
  const tiles = numberedTiles(variant, tile, 'rowStart', ['u32(seen.x)', 'u32(max(seen.y, 0))']);
  const loaded: HalfOperand[] = [
    {columns: columns.score, operand: 'k', limit: 'keyLimit'},
    {columns: columns.value, operand: 'v', limit: 'keyLimit'},
  ];
  const ahead = new ColumnsAhead(tile, loaded, tiles);
  const seenByAll = `keysThatAllSee(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1})`;
  const elements = (mayHide: boolean) => `
    let key = ownColumns;
    let hidden = ${mayHide ? `hasHidden(head, i32(firstRow), i32(firstRow) + ${MATRIX_SIZE}, i32(columnStart), i32(columnStart) + ${tile.columns})` : 'false'};
    ${laneRows
      .map(
        (i) => `{
      let query = vec4i(i32(ownRow${i}));
      let reference = stats${i}.x;
      let share = stats${i}.y;
      let delta = gradientScale * stats${i}.z;
      ${variant.dropout ? `let keep = keepOf(head, ownRow${i}, columnStart / 4u + ownQuad);` : ''}
      var s = ${scoreQuad(queryStage, 0, i)};
      var d = ${scoreQuad(queryStage, 1, i)};
      ${gradientOfQuad(variant, tile, 's', 'd', 'dots')}
      ${weightQuad(queryStage, 0, i)} = vec4<f16>(d);
    }`,
      )
      .join('\n')}`;
  const body = `
${declarations(variant, tile, queryStage, ahead)}
${storeFunction(variant, 'dq')}
${entryPoint(
  tile.threads,
  `
  ${enterQueryRows(variant, tile, ['q', 'dOutput'])}
  let gradientScale = stats[head.index].w;
  ${tiles.declare}
  ${enterHalfTile()}
  ${laneRows.map((i) => `let stats${i} = statsOf(head, ownRow${i});`).join('\n')}

  ${ahead.declare}
  ${ahead.loadFirst}
  ${keepHalfRows(queryStage, depth, 'scoreRows', operandSource('q', 'qBase', 'queryLimit'))}
  ${keepHalfRows(queryStage, valueDepth, 'valueRows', scaledGradient)}
  ${ahead.storeFirst}
  ${declareResults(depth, 'dq')}
  workgroupBarrier();

  ${overTiles(variant, ahead, queryStage, seenByAll, elements, addWeightedColumns(queryStage, 0, 'dq', columns.score))}

  let factor = params.scale / gradientScale;
  ${storeHalfRows(variant, queryStage, 'dq', {sums: 'dq', base: 'qBase', limit: 'params.queries'}, (quad) => `factor * ${quad}`)}`,
  halfBuiltins,
)}`;
  return attentionShader(
    [...gradientInputs(variant, operands), operandBinding(variant, 'dq', 'read_write')],
    body,
    halfDirectives,
  );
}

export function halfKeyValueGradientShader(variant: AttentionVariant, tile: HalfTile): Shader {
  const {depth, valueDepth} = variant;
  const columns = columnMemories(variant);
  const loaded: HalfOperand[] = [
    {columns: columns.score, operand: 'q', limit: 'queryLimit'},
    {columns: columns.value, operand: 'dOutput', limit: 'queryLimit', factor: 'gradientScale'},
  ];
  const tiles = numberedTiles(variant, tile, 'rowStart', ['u32(seen.x)', 'u32(max(seen.y, 0))']);
  const ahead = new ColumnsAhead(tile, loaded, tiles, {
    declare: 'var statsAhead = vec4f();',
    load: (columnStart) => `statsAhead = statsOf(head, ${columnStart} + localIndex % ${tile.columns}u);`,
    store: (buffer) =>
      `if (localIndex < ${tile.columns}u) { columnStats[${buffer} * ${tile.columns}u + localIndex] = statsAhead; }`,
  });
  const ofQueries = (field: string) =>
    `vec4f(${range(4)
      .map((c) => `columnStats[buffer * ${tile.columns}u + 4u * ownQuad + ${c}u].${field}`)
      .join(', ')})`;
  const seenByAll = `queriesThatSeeAll(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1})`;
  const elements = (mayHide: boolean) => `
      let query = ownColumns;
      let hidden = ${mayHide ? `hasHidden(head, i32(columnStart), i32(columnStart) + ${tile.columns}, i32(firstRow), i32(firstRow) + ${MATRIX_SIZE})` : 'false'};
      let reference = ${ofQueries('x')};
      let share = ${ofQueries('y')};
      let delta = gradientScale * ${ofQueries('z')};
      ${laneRows
        .map(
          (i) => `{
        let key = vec4i(i32(ownRow${i}));
        ${variant.dropout ? `let keep = vec4f(${range(4).map((c) => `keepOfElement(head, u32(query[${c}]), ownRow${i})`)});` : ''}
        var s = ${scoreQuad(keyValueStage, 0, i)};
        var d = ${scoreQuad(keyValueStage, 1, i)};
        ${gradientOfQuad(variant, tile, 's', 'd', 'dots')}
        ${weightQuad(keyValueStage, 0, i)} = vec4<f16>(s);
        ${weightQuad(keyValueStage, 1, i)} = vec4<f16>(d);
      }`,
        )
        .join('\n')}`;
  const sums = `${addWeightedColumns(keyValueStage, 0, 'dv', columns.value)}
      ${addWeightedColumns(keyValueStage, 1, 'dk', columns.score)}`;
  const body = `
${declarations(variant, tile, keyValueStage, ahead)}
var<workgroup> columnStats: array<vec4f, ${2 * tile.columns}>;
${storeFunction(variant, 'dk')}
${storeFunction(variant, 'dv')}
${entryPoint(
  tile.threads,
  `
  ${enterKeyRows(variant, tile)}
  ${enterHalfTile()}
  ${keepHalfRows(keyValueStage, depth, 'scoreRows', operandSource('k', 'kBase', 'keyLimit'))}
  ${keepHalfRows(keyValueStage, valueDepth, 'valueRows', operandSource('v', 'vBase', 'keyLimit'))}
  ${declareResults(depth, 'dk')}
  ${declareResults(valueDepth, 'dv')}
  ${ahead.declare}

  // Heads of a group add up; the largest of their scales could be too large for another.
  let groupScale = smallestScale(batch * params.heads + keyHead * groupSize, groupSize);
  for (var member = 0u; member < groupSize; member++) {
    ${enterMember(variant, tile)}
    let gradientScale = groupScale;
    ${tiles.declare}
    ${ahead.loadFirst}
    // The tiles of the head before may still be read.
    workgroupBarrier();
    ${ahead.storeFirst}
    workgroupBarrier();

    ${overTiles(variant, ahead, keyValueStage, seenByAll, elements, sums)}
  }

  ${storeHalfRows(variant, keyValueStage, 'dk', {sums: 'dk', base: 'kBase', limit: 'params.keys'}, (quad) => `params.scale / groupScale * ${quad}`)}
  ${storeHalfRows(variant, keyValueStage, 'dv', {sums: 'dv', base: 'vBase', limit: 'params.keys'}, (quad) => `${quad} / groupScale`)}`,
  halfBuiltins,
)}

// Of the heads of a group.
fn smallestScale(first: u32, count: u32) -> f32 {
  var smallest = stats[first].w;
  for (var n = 1u; n < count; n++) { smallest = min(smallest, stats[first + n].w); }
  return smallest;
}`;
  return attentionShader(
    [
      ...gradientInputs(variant, operands),
      operandBinding(variant, 'dk', 'read_write'),
      operandBinding(variant, 'dv', 'read_write'),
    ],
    body,
    halfDirectives,
  );
}
