/**
 * WGSL of the kernels for dQ and for dK and dV for devices with wide subgroups: what query_gradient_wgsl.ts and
 * key_value_gradient_wgsl.ts do, with the rows of a tile spread over lane groups (lane_groups_wgsl.ts). A tile's rows are
 * queries in the first and keys in the second; both operands of the rows and all sums stay in registers.
 */
import {
  type AttentionVariant,
  attentionShader,
  dropoutFunction,
  headBase,
  headFunctions,
  loadFunction,
  type Operand,
  operandBinding,
  operandDepth,
  operandSource,
  optionalBindings,
  scoreFunctions,
  storeFunction,
} from './attention_wgsl.js';
import type {KeyValueOutputs} from './key_value_gradient_wgsl.js';
import type {GroupTile} from './lane_group_tiles.js';
import {
  type ColumnMemory,
  columnMemoryBytes,
  columnsAtOnce,
  declareColumns,
  declareRows,
  eachRegister,
  enterGroup,
  enterSubgroup,
  enterTurn,
  groupDirectives,
  keepRows,
  loadColumnTile,
  overColumnsOfTile,
  partialDot,
  readColumn,
  spreadOverGroup,
  storeGroupRows,
  sumOverGroup,
} from './lane_groups_wgsl.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, overColumnTiles} from './live_tiles_wgsl.js';
import {statsFunction} from './row_stats.js';
import {elementFunctions} from './score_elements_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {lines} from './tile_wgsl.js';

/** Bytes of workgroup memory that either kernel takes with this tile. */
export function groupGradientBytes({depth, valueDepth}: AttentionVariant, tile: GroupTile): number {
  const statsBytes = tile.columns * 16;
  return columnMemoryBytes(tile, depth) + columnMemoryBytes(tile, valueDepth) + statsBytes;
}

/** The columns in workgroup memory that go with S (k, or q) and with dP (v, or dOutput). */
function columnMemories({depth, valueDepth}: AttentionVariant): {score: ColumnMemory; value: ColumnMemory} {
  return {score: {name: 'scoreColumns', depth}, value: {name: 'valueColumns', depth: valueDepth}};
}

function readBindings(variant: AttentionVariant, operands: Operand[]) {
  return [
    ...operands.map((operand) => operandBinding(variant, operand, 'read')),
    {name: 'stats', access: 'read', element: 'vec4f'} as const,
    ...optionalBindings(variant),
    ...liveTilesBinding(variant),
  ];
}

function declarations(variant: AttentionVariant, tile: GroupTile, operands: Operand[]): string {
  const {score, value} = columnMemories(variant);
  return `
${declareColumns(tile, score)}
${declareColumns(tile, value)}
${operands.map((operand) => loadFunction(variant, operand)).join('')}
${headFunctions(variant, 'stats')}
${statsFunction}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${elementFunctions(variant)}`;
}

/**
 * Of the columns that a group takes at once, from `column` on, declares `p`, the own probability (after dropout), and, if
 * wanted, `d`, its gradient times that of the softcap, and the quads that it has read, `a${c}` and `b${c}`. Needs `query`
 * and `key`, of the own score, and `ownStats`, of its query.
 */
function scoreGradientOfColumns(variant: AttentionVariant, tile: GroupTile, needsGradient: boolean): string {
  const {score, value} = columnMemories(variant);
  const atOnce = columnsAtOnce(tile);
  const product = (memory: ColumnMemory, letter: string, row: string, name: string) => `
    ${lines(atOnce, (c) => lines(4, (j) => partialDot(tile, memory.depth, `${name}${c}_${j}`, `${row}${j}`, `${letter}${c}`)))}
    ${sumOverGroup(tile, name, (c, j) => `${name}${c}_${j}`)}`;
  const keep = variant.dropout ? ' * keep' : '';
  const slope = variant.softcap ? ' * softcapSlope(vec4f(dot)).x' : '';
  return `
    ${lines(atOnce, (c) => readColumn(tile, score, `a${c}`, 'column', c))}
    ${lines(atOnce, (c) => readColumn(tile, value, `b${c}`, 'column', c))}
    ${product(score, 'a', 'scoreRow', 'dot')}
    ${needsGradient ? product(value, 'b', 'valueRow', 'dp') : ''}
    var score = scoreOf(head, dot, i32(query), i32(key));
    if (hidden) { score = hideIfInvisible(head, score, i32(query), i32(key)); }
    ${hideDeadIn(variant, tile, 'score = hideIfDead(head, score, i32(query), i32(key));')}
    let probability = exp2(score - ownStats.x) * ownStats.y;
    ${variant.dropout ? 'let keep = keepOfElement(head, query, key);' : ''}
    let p = probability${keep};
    ${needsGradient ? `let d = probability * (dp${keep} - ownStats.z)${slope};` : ''}`;
}

/** ${sums} += own · columns, for all rows and the columns at once. */
function addWeighted(tile: GroupTile, depth: number, sums: string, own: string, letter: string): string {
  return lines(
    columnsAtOnce(tile),
    (c) => `{
    ${spreadOverGroup('weight', own, c)}
    ${eachRegister(tile, depth, (j, n) => `${sums}${j}_${n} = fma(vec4f(weight${j}), ${letter}${c}_${n}, ${sums}${j}_${n});`)}
  }`,
  );
}

/** The same for all columns of a tile: for those at once, from `column` on. */
function overColumnsAtOnce(tile: GroupTile, body: string): string {
  const atOnce = columnsAtOnce(tile);
  return overColumnsOfTile(
    tile,
    lines(tile.unrolled / atOnce, (t) => `{ let column = step * ${tile.unrolled}u + ${t * atOnce}u;\n${body} }`),
  );
}

export function groupQueryGradientShader(variant: AttentionVariant, tile: GroupTile): Shader {
  const {depth, valueDepth} = variant;
  const {score, value} = columnMemories(variant);
  const operands: Operand[] = ['q', 'k', 'v', 'dOutput'];
  const body = `
${declarations(variant, tile, operands)}
${storeFunction(variant, 'dq')}
${entryPoint(
  tile.threads,
  `
  ${enterTurn('params.batch * params.heads')}
  let rowStart = (params.rowTiles - 1u - turn) * ${tile.rows}u;
  let head = makeHead(matrix / params.heads, matrix % params.heads);
  let qBase = ${headBase(variant, 'q', 'head.batch', 'head.head')};
  let dOutputBase = ${headBase(variant, 'dOutput', 'head.batch', 'head.head')};
  let kBase = ${headBase(variant, 'k', 'head.batch', 'head.keyHead')};
  let vBase = ${headBase(variant, 'v', 'head.batch', 'head.keyHead')};
  let queryLimit = u32(head.queryLength);
  let keyLimit = u32(head.keyLength);
  let seen = visibleKeys(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
  let endKey = u32(max(seen.y, 0));
  ${enterGroup(tile)}
  ${enterSubgroup(tile)}
  let seenBySubgroup = visibleKeys(head, i32(subgroupFirst), i32(subgroupLast));
  let query = ownRow;
  let ownStats = statsOf(head, query);
  ${keepRows(tile, depth, 'scoreRow', operandSource('q', 'qBase', 'queryLimit'))}
  ${keepRows(tile, valueDepth, 'valueRow', operandSource('dOutput', 'dOutputBase', 'queryLimit'))}
  ${declareRows(tile, depth, 'dq')}

  ${overColumnTiles(
    variant,
    tile,
    'rowStart',
    'columnStart',
    ['u32(seen.x)', 'endKey'],
    `
    workgroupBarrier();
    ${loadColumnTile(tile, score, operandSource('k', 'kBase', 'keyLimit'))}
    ${loadColumnTile(tile, value, operandSource('v', 'vBase', 'keyLimit'))}
    workgroupBarrier();
    if (i32(columnStart) < seenBySubgroup.y && i32(columnStart) + ${tile.columns} > seenBySubgroup.x) {
      let hidden = hasHidden(head, i32(subgroupFirst), i32(subgroupLast) + 1, i32(columnStart), i32(columnStart) + ${tile.columns});
      ${overColumnsAtOnce(
        tile,
        `
        let key = columnStart + column + ownColumn;
        ${scoreGradientOfColumns(variant, tile, true)}
        ${addWeighted(tile, depth, 'dq', 'd', 'a')}`,
      )}
    }`,
  )}

  ${storeGroupRows(tile, depth, 'params.queries', (row, quad, j, n) => `store_dq(qBase, ${row}, ${quad}, params.scale * dq${j}_${n});`)}`,
  ['@builtin(subgroup_size) subgroupSize: u32'],
)}`;
  return attentionShader(
    [...readBindings(variant, operands), operandBinding(variant, 'dq', 'read_write')],
    body,
    groupDirectives,
  );
}

export function groupKeyValueGradientShader(
  variant: AttentionVariant,
  tile: GroupTile,
  outputs: KeyValueOutputs,
): Shader {
  const {depth, valueDepth} = variant;
  const {score, value} = columnMemories(variant);
  const operands: Operand[] = outputs.dk ? ['q', 'k', 'v', 'dOutput'] : ['q', 'k', 'dOutput'];
  const written = (['dk', 'dv'] as const).filter((name) => outputs[name]);
  const body = `
var<workgroup> columnStats: array<vec4f, ${tile.columns}>;
${declarations(variant, tile, operands)}
${written.map((name) => storeFunction(variant, name)).join('')}
${entryPoint(
  tile.threads,
  `
  ${enterTurn('params.batch * params.keyHeads')}
  // Under a causal mask the first keys are seen by the most queries.
  let rowStart = turn * ${tile.rows}u;
  let batch = matrix / params.keyHeads;
  let keyHead = matrix % params.keyHeads;
  let groupSize = params.heads / params.keyHeads;
  let kBase = ${headBase(variant, 'k', 'batch', 'keyHead')};
  let vBase = ${headBase(variant, 'v', 'batch', 'keyHead')};
  // Lengths are those of the sample.
  let keyLimit = u32(makeHead(batch, keyHead * groupSize).keyLength);
  ${enterGroup(tile)}
  ${enterSubgroup(tile)}
  let key = ownRow;
  ${keepRows(tile, depth, 'scoreRow', operandSource('k', 'kBase', 'keyLimit'))}
  ${outputs.dk ? keepRows(tile, valueDepth, 'valueRow', operandSource('v', 'vBase', 'keyLimit')) : ''}
  ${written.map((name) => declareRows(tile, operandDepth(variant, name), name)).join('\n')}

  for (var member = 0u; member < groupSize; member++) {
    let head = makeHead(batch, keyHead * groupSize + member);
    let queryLimit = u32(head.queryLength);
    let qBase = ${headBase(variant, 'q', 'batch', 'head.head')};
    let dOutputBase = ${headBase(variant, 'dOutput', 'batch', 'head.head')};
    let seen = visibleQueries(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
    let endQuery = u32(max(seen.y, 0));
    let seenBySubgroup = visibleQueries(head, i32(subgroupFirst), i32(subgroupLast));
    ${overColumnTiles(
      variant,
      tile,
      'rowStart',
      'columnStart',
      ['u32(seen.x)', 'endQuery'],
      `
      workgroupBarrier();
      ${loadColumnTile(tile, score, operandSource('q', 'qBase', 'queryLimit'))}
      ${loadColumnTile(tile, value, operandSource('dOutput', 'dOutputBase', 'queryLimit'))}
      if (localIndex < ${tile.columns}u) { columnStats[localIndex] = statsOf(head, columnStart + localIndex); }
      workgroupBarrier();
      if (i32(columnStart) < seenBySubgroup.y && i32(columnStart) + ${tile.columns} > seenBySubgroup.x) {
        let hidden = hasHidden(head, i32(columnStart), i32(columnStart) + ${tile.columns}, i32(subgroupFirst), i32(subgroupLast) + 1);
        ${overColumnsAtOnce(
          tile,
          `
          let query = columnStart + column + ownColumn;
          let ownStats = columnStats[column + ownColumn];
          ${scoreGradientOfColumns(variant, tile, outputs.dk)}
          ${outputs.dv ? addWeighted(tile, valueDepth, 'dv', 'p', 'b') : ''}
          ${outputs.dk ? addWeighted(tile, depth, 'dk', 'd', 'a') : ''}`,
        )}
      }`,
    )}
  }

  ${outputs.dk ? storeGroupRows(tile, depth, 'params.keys', (row, quad, j, n) => `store_dk(kBase, ${row}, ${quad}, params.scale * dk${j}_${n});`) : ''}
  ${outputs.dv ? storeGroupRows(tile, valueDepth, 'params.keys', (row, quad, j, n) => `store_dv(vBase, ${row}, ${quad}, dv${j}_${n});`) : ''}`,
  ['@builtin(subgroup_size) subgroupSize: u32'],
)}`;
  return attentionShader(
    [...readBindings(variant, operands), ...written.map((name) => operandBinding(variant, name, 'read_write'))],
    body,
    groupDirectives,
  );
}
