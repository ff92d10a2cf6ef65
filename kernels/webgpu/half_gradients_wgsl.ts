/**
 * WGSL of the kernels for dQ and for dK and dV that multiply in float16 (half_matrices_wgsl.ts): what query_gradient_wgsl.ts
 * and key_value_gradient_wgsl.ts do. dOutput is scaled so that the largest of a head's elements is near 1 (gradient_scale.ts),
 * because gradients are often smaller than float16 can tell from 0.
 */
import {
  type AttentionVariant,
  attentionShader,
  dropoutFunction,
  headFunctions,
  loadFunction,
  type Operand,
  operandBinding,
  operandSource,
  optionalBindings,
  scoreFunctions,
  storeFunction,
} from './attention_wgsl.js';
import {ColumnsAhead, type HalfColumns, type HalfOperand} from './half_columns_wgsl.js';
import {
  addWeightedColumns,
  declareBases,
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
import type {HalfTile} from './half_tiles.js';
import {enterTurn} from './lane_groups_wgsl.js';
import {layoutFunctions, liveTilesBinding, numberedTiles} from './live_tiles_wgsl.js';
import {statsFunction} from './row_stats.js';
import {elementFunctions} from './score_elements_wgsl.js';
import {gradientOfQuad} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {range, type Source} from './tile_wgsl.js';

/** S and dP; dS, and for dV also P. */
const queryStage: Stage = {scores: 2, weights: 1};
const keyValueStage: Stage = {scores: 2, weights: 2};

/** The columns in workgroup memory that go with S (k, or q) and with dP (v, or dOutput). */
function columnsOf({depth, valueDepth}: AttentionVariant): {score: HalfColumns; value: HalfColumns} {
  return {score: {name: 'scoreColumns', depth}, value: {name: 'valueColumns', depth: valueDepth}};
}

export function halfQueryGradientBytes(variant: AttentionVariant, tile: HalfTile): number {
  return halfBytes(tile, queryStage, Object.values(columnsOf(variant)));
}

export function halfKeyValueGradientBytes(variant: AttentionVariant, tile: HalfTile): number {
  return halfBytes(tile, keyValueStage, Object.values(columnsOf(variant))) + 2 * tile.columns * 16;
}

const operands: Operand[] = ['q', 'k', 'v', 'dOutput'];

function readBindings(variant: AttentionVariant) {
  return [
    ...operands.map((operand) => operandBinding(variant, operand, 'read')),
    {name: 'stats', access: 'read', element: 'vec4f'} as const,
    ...optionalBindings(variant),
    ...liveTilesBinding(variant),
  ];
}

function declarations(variant: AttentionVariant, tile: HalfTile, stage: Stage): string {
  return `
${declareHalfMemory(tile, stage, Object.values(columnsOf(variant)))}
${operands.map((operand) => loadFunction(variant, operand)).join('')}
${headFunctions(variant, 'stats')}
${statsFunction}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${elementFunctions(variant)}`;
}

const scaledGradient: Source = {
  load: (row, quad) => `gradientScale * ${operandSource('dOutput', 'dOutputBase', 'queryLimit').load(row, quad)}`,
};

/** The matrices S and dP of the subgroup's rows with the tile's columns, in the stage. */
function stageScores(stage: Stage, {score, value}: {score: HalfColumns; value: HalfColumns}): string {
  return `
    {
      ${multiplyByColumns('s', 'scoreRows', score)}
      ${storeResult(stage, 0, 's')}
    }
    {
      ${multiplyByColumns('dp', 'valueRows', value)}
      ${storeResult(stage, 1, 'dp')}
    }
    workgroupBarrier();`;
}

export function halfQueryGradientShader(variant: AttentionVariant, tile: HalfTile): Shader {
  const {depth, valueDepth} = variant;
  const columns = columnsOf(variant);
  const ahead = new ColumnsAhead(tile, [
    {columns: columns.score, operand: 'k', limit: 'keyLimit'},
    {columns: columns.value, operand: 'v', limit: 'keyLimit'},
  ]);
  const tiles = numberedTiles(variant, tile, 'rowStart', ['u32(seen.x)', 'u32(max(seen.y, 0))']);
  const body = `
${declarations(variant, tile, queryStage)}
${storeFunction(variant, 'dq')}
${entryPoint(
  tile.threads,
  `
  ${enterTurn('params.batch * params.heads')}
  let rowStart = (params.rowTiles - 1u - turn) * ${tile.rows}u;
  let head = makeHead(matrix / params.heads, matrix % params.heads);
  ${declareBases(variant, ['q', 'dOutput'], 'head.batch', 'head.head')}
  ${declareBases(variant, ['k', 'v'], 'head.batch', 'head.keyHead')}
  let queryLimit = u32(head.queryLength);
  let keyLimit = u32(head.keyLength);
  let gradientScale = stats[head.index].w;
  let seen = visibleKeys(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
  ${tiles.declare}
  ${enterHalfTile()}
  ${laneRows.map((i) => `let stats${i} = statsOf(head, ownRow${i});`).join('\n')}

  ${ahead.declare}
  if (tileCount > 0u) { ${ahead.load(tiles.columnStart('0u'))} }
  ${keepHalfRows(queryStage, depth, 'scoreRows', operandSource('q', 'qBase', 'queryLimit'))}
  ${keepHalfRows(queryStage, valueDepth, 'valueRows', scaledGradient)}
  ${ahead.store('0u')}
  if (tileCount > 1u) { ${ahead.load(tiles.columnStart('1u'))} }
  ${declareResults(depth, 'dq')}
  workgroupBarrier();

  for (var number = 0u; number < tileCount; number++) {
    let buffer = number % 2u;
    let columnStart = ${tiles.columnStart('number')};
    let hasDead = ${tiles.hasDead('number')};
    ${stageScores(queryStage, columns)}
    let key = 4 * i32(columnStart / 4u + ownQuad) + vec4i(0, 1, 2, 3);
    let hidden = hasHidden(head, i32(firstRow), i32(firstRow) + 16, i32(columnStart), i32(columnStart) + ${tile.columns});
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
      .join('\n')}
    ${ahead.store('(1u - buffer)')}
    workgroupBarrier();
    if (number + 2u < tileCount) { ${ahead.load(tiles.columnStart('(number + 2u)'))} }
    ${addWeightedColumns(queryStage, 0, 'dq', columns.score)}
  }

  let factor = params.scale / gradientScale;
  ${storeHalfRows(variant, queryStage, 'dq', {sums: 'dq', base: 'qBase', limit: 'params.queries'}, (quad) => `factor * ${quad}`)}`,
  halfBuiltins,
)}`;
  return attentionShader([...readBindings(variant), operandBinding(variant, 'dq', 'read_write')], body, halfDirectives);
}

export function halfKeyValueGradientShader(variant: AttentionVariant, tile: HalfTile): Shader {
  const {depth, valueDepth} = variant;
  const columns = columnsOf(variant);
  const loaded: HalfOperand[] = [
    {columns: columns.score, operand: 'q', limit: 'queryLimit'},
    {columns: columns.value, operand: 'dOutput', limit: 'queryLimit', factor: 'gradientScale'},
  ];
  const ahead = new ColumnsAhead(tile, loaded);
  const tiles = numberedTiles(variant, tile, 'rowStart', ['u32(seen.x)', 'u32(max(seen.y, 0))']);
  const load = (columnStart: string) => `
    ${ahead.load(columnStart)}
    if (localIndex < ${tile.columns}u) { statsAhead = statsOf(head, ${columnStart} + localIndex); }`;
  const store = (buffer: string) => `
    ${ahead.store(buffer)}
    if (localIndex < ${tile.columns}u) { columnStats[${buffer} * ${tile.columns}u + localIndex] = statsAhead; }`;
  const ofQueries = (field: string) =>
    `vec4f(${range(4)
      .map((c) => `columnStats[buffer * ${tile.columns}u + 4u * ownQuad + ${c}u].${field}`)
      .join(', ')})`;
  const body = `
${declarations(variant, tile, keyValueStage)}
var<workgroup> columnStats: array<vec4f, ${2 * tile.columns}>;
${storeFunction(variant, 'dk')}
${storeFunction(variant, 'dv')}
${entryPoint(
  tile.threads,
  `
  ${enterTurn('params.batch * params.keyHeads')}
  // Under a causal mask the first keys are seen by the most queries.
  let rowStart = turn * ${tile.rows}u;
  let batch = matrix / params.keyHeads;
  let keyHead = matrix % params.keyHeads;
  let groupSize = params.heads / params.keyHeads;
  ${declareBases(variant, ['k', 'v'], 'batch', 'keyHead')}
  // Lengths are those of the sample.
  let keyLimit = u32(makeHead(batch, keyHead * groupSize).keyLength);
  ${enterHalfTile()}
  ${keepHalfRows(keyValueStage, depth, 'scoreRows', operandSource('k', 'kBase', 'keyLimit'))}
  ${keepHalfRows(keyValueStage, valueDepth, 'valueRows', operandSource('v', 'vBase', 'keyLimit'))}
  ${declareResults(depth, 'dk')}
  ${declareResults(valueDepth, 'dv')}
  ${ahead.declare}
  var statsAhead = vec4f();

  // Heads of a group add up; the largest of their scales could be too large for another.
  let groupScale = smallestScale(batch * params.heads + keyHead * groupSize, groupSize);
  for (var member = 0u; member < groupSize; member++) {
    let head = makeHead(batch, keyHead * groupSize + member);
    let queryLimit = u32(head.queryLength);
    let gradientScale = groupScale;
    ${declareBases(variant, ['q', 'dOutput'], 'batch', 'head.head')}
    let seen = visibleQueries(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
    ${tiles.declare}
    if (tileCount > 0u) { ${load(tiles.columnStart('0u'))} }
    // The tiles of the head before may still be read.
    workgroupBarrier();
    ${store('0u')}
    if (tileCount > 1u) { ${load(tiles.columnStart('1u'))} }
    workgroupBarrier();

    for (var number = 0u; number < tileCount; number++) {
      let buffer = number % 2u;
      let columnStart = ${tiles.columnStart('number')};
      let hasDead = ${tiles.hasDead('number')};
      ${stageScores(keyValueStage, columns)}
      let query = 4 * i32(columnStart / 4u + ownQuad) + vec4i(0, 1, 2, 3);
      let hidden = hasHidden(head, i32(columnStart), i32(columnStart) + ${tile.columns}, i32(firstRow), i32(firstRow) + 16);
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
        .join('\n')}
      ${store('(1u - buffer)')}
      workgroupBarrier();
      if (number + 2u < tileCount) { ${load(tiles.columnStart('(number + 2u)'))} }
      ${addWeightedColumns(keyValueStage, 0, 'dv', columns.value)}
      ${addWeightedColumns(keyValueStage, 1, 'dk', columns.score)}
    }
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
      ...readBindings(variant),
      operandBinding(variant, 'dk', 'read_write'),
      operandBinding(variant, 'dv', 'read_write'),
    ],
    body,
    halfDirectives,
  );
}
