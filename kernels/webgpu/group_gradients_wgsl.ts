/**
 * WGSL of the kernels for dQ and for dK and dV for devices with wide subgroups: what query_gradient_wgsl.ts and
 * key_value_gradient_wgsl.ts do, with the rows of a tile spread over lane groups (lane_groups_wgsl.ts). A tile's rows are
 * queries in the first and keys in the second; both operands of the rows and all sums stay in registers.
 */
import {
  type AttentionVariant,
  attentionShader,
  type Operand,
  operandBinding,
  operandDepth,
  operandSource,
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
import {hideDeadIn, overColumnTiles} from './live_tiles_wgsl.js';
import {elementFunctions} from './score_elements_wgsl.js';
import {columnMemories, gradientFunctions, gradientInputs} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {lines} from './tile_wgsl.js';
import {enterKeyRows, enterMember, enterQueryRows} from './turns_wgsl.js';

/** Bytes of workgroup memory that either kernel takes with this tile. */
export function groupGradientBytes({depth, valueDepth}: AttentionVariant, tile: GroupTile): number {
  const statsBytes = tile.columns * 16;
  return columnMemoryBytes(tile, depth) + columnMemoryBytes(tile, valueDepth) + statsBytes;
}

function declarations(variant: AttentionVariant, tile: GroupTile, operands: Operand[]): string {
  const {score, value} = columnMemories(variant);
  return `
${declareColumns(tile, score)}
${declareColumns(tile, value)}
${gradientFunctions(variant, operands)}
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
  ${enterQueryRows(variant, tile, ['q', 'dOutput'])}
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
    [...gradientInputs(variant, operands), operandBinding(variant, 'dq', 'read_write')],
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
  ${enterKeyRows(variant, tile)}
  ${enterGroup(tile)}
  ${enterSubgroup(tile)}
  let key = ownRow;
  ${keepRows(tile, depth, 'scoreRow', operandSource('k', 'kBase', 'keyLimit'))}
  ${outputs.dk ? keepRows(tile, valueDepth, 'valueRow', operandSource('v', 'vBase', 'keyLimit')) : ''}
  ${written.map((name) => declareRows(tile, operandDepth(variant, name), name)).join('\n')}

  for (var member = 0u; member < groupSize; member++) {
    ${enterMember(variant, tile)}
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
    [...gradientInputs(variant, operands), ...written.map((name) => operandBinding(variant, name, 'read_write'))],
    body,
    groupDirectives,
  );
}
