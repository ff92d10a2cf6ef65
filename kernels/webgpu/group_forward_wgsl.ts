/**
 * WGSL of the forward kernel for devices with wide subgroups: what forward_wgsl.ts does, with the rows of a tile spread
 * over lane groups (lane_groups_wgsl.ts). Queries and the output stay in registers; keys and values pass through workgroup
 * memory.
 */
import {
  type AttentionVariant,
  attentionShader,
  dropoutFunction,
  FLOOR,
  forwardInputs,
  forwardOutputs,
  headBase,
  headFunctions,
  loadFunction,
  operandSource,
  scoreFunctions,
  softmaxFunctions,
  storeFunction,
} from './attention_wgsl.js';
import type {GroupTile} from './lane_group_tiles.js';
import {
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
  overColumns,
  overColumnsOfTile,
  partialDot,
  readColumn,
  spreadOverGroup,
  storeGroupRows,
  sumOverGroup,
} from './lane_groups_wgsl.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, overColumnTiles} from './live_tiles_wgsl.js';
import {elementFunctions} from './score_elements_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {lines, range} from './tile_wgsl.js';
import {enterQueryRows} from './turns_wgsl.js';

/** Bytes of workgroup memory that the kernel takes with this tile. */
export function groupForwardBytes({depth, valueDepth}: AttentionVariant, tile: GroupTile): number {
  return columnMemoryBytes(tile, depth) + columnMemoryBytes(tile, valueDepth);
}

export function groupForwardShader(variant: AttentionVariant, tile: GroupTile): Shader {
  const {depth, valueDepth} = variant;
  const keys = {name: 'keyMemory', depth};
  const values = {name: 'valueMemory', depth: valueDepth};
  const body = `
${declareColumns(tile, keys)}
${declareColumns(tile, values)}
${loadFunction(variant, 'q')}
${loadFunction(variant, 'k')}
${loadFunction(variant, 'v')}
${storeFunction(variant, 'output')}
${headFunctions(variant, 'heads')}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${elementFunctions(variant)}
${softmaxFunctions}
${entryPoint(
  tile.threads,
  `
  ${enterQueryRows(variant, tile, ['q'])}
  let firstKey = u32(seen.x);
  let endKey = u32(max(seen.y, 0));
  ${enterGroup(tile)}
  ${enterSubgroup(tile)}
  let seenBySubgroup = visibleKeys(head, i32(subgroupFirst), i32(subgroupLast));

  // Of the own row: over all columns, and over the own ones.
  var maximum = f32(${FLOOR});
  var sum = 0.0;
  ${keepRows(tile, depth, 'q', operandSource('q', 'qBase', 'queryLimit'))}
  ${declareRows(tile, valueDepth, 'o')}

  ${overColumnTiles(
    variant,
    tile,
    'rowStart',
    'columnStart',
    ['firstKey', 'endKey'],
    `
    workgroupBarrier();
    ${loadColumnTile(tile, keys, operandSource('k', 'kBase', 'keyLimit'))}
    ${loadColumnTile(tile, values, operandSource('v', 'vBase', 'keyLimit'))}
    workgroupBarrier();
    if (i32(columnStart) < seenBySubgroup.y && i32(columnStart) + ${tile.columns} > seenBySubgroup.x) {
      let hidden = hasHidden(head, i32(subgroupFirst), i32(subgroupLast) + 1, i32(columnStart), i32(columnStart) + ${tile.columns});
      ${overColumnsOfTile(tile, columnsOfStep(variant, tile))}
    }`,
  )}

  ${overColumns(tile, 'sum', (a, b) => `${a} + ${b}`)}
  let visible = sawSomething(sum) & (ownRow < queryLimit);
  let factor = select(0.0, 1.0 / sum, visible);
  ${spreadOverGroup('factor', 'factor', 0)}
  let oBase = ${headBase(variant, 'output', 'head.batch', 'head.head')};
  ${storeGroupRows(
    tile,
    valueDepth,
    'params.queries',
    // Not 0 · o, which may be NaN.
    (row, quad, j, n) =>
      `store_output(oBase, ${row}, ${quad}, select(vec4f(), o${j}_${n} * factor${j}, factor${j} != 0.0));`,
  )}
  if (ownColumn == 0u && ownRow < params.queries) {
    softmaxStats[head.index * params.queries + ownRow] = statsOfRow(maximum, sum, visible);
  }`,
  ['@builtin(subgroup_size) subgroupSize: u32'],
)}`;

  return attentionShader(
    [...forwardInputs(variant), ...liveTilesBinding(variant), ...forwardOutputs(variant)],
    body,
    groupDirectives,
  );
}

/** The columns of one step: their scores, softmax with the maximum of all of them, and the weighted sum of the values. */
function columnsOfStep(variant: AttentionVariant, tile: GroupTile): string {
  const {depth, valueDepth} = variant;
  const atOnce = columnsAtOnce(tile);
  const exchanges = range(tile.unrolled / atOnce);
  const ownKey = (t: number) => `(columnStart + column + ${t * atOnce}u + ownColumn)`;
  const score = (t: number) => `
    ${lines(atOnce, (c) => readColumn(tile, {name: 'keyMemory', depth}, `k${t}_${c}`, `(column + ${t * atOnce}u)`, c))}
    ${lines(atOnce, (c) => lines(4, (j) => partialDot(tile, depth, `part${t}_${c}_${j}`, `q${j}`, `k${t}_${c}`)))}
    ${sumOverGroup(tile, `dot${t}`, (c, j) => `part${t}_${c}_${j}`)}
    var s${t} = scoreOf(head, dot${t}, i32(ownRow), i32${ownKey(t)});
    ${hideDeadIn(variant, tile, `s${t} = hideIfDead(head, s${t}, i32(ownRow), i32${ownKey(t)});`)}`;
  const weigh = (t: number, c: number) => `{
    ${spreadOverGroup('p', `s${t}`, c)}
    ${readColumn(tile, {name: 'valueMemory', depth: valueDepth}, 'v', `(column + ${t * atOnce}u)`, c)}
    ${eachRegister(tile, valueDepth, (j, n) => `o${j}_${n} = fma(vec4f(p${j}), v_${n}, o${j}_${n});`)}
  }`;
  const hide = (t: number) => `s${t} = hideIfInvisible(head, s${t}, i32(ownRow), i32${ownKey(t)});`;
  return `
    ${exchanges.map(score).join('\n')}
    // Once for all of them: a branch after each score would keep compilers from moving loads ahead.
    if (hidden) {
      ${exchanges.map(hide).join('\n')}
    }
    var newMaximum = ${exchanges.reduce((largest, t) => `max(${largest}, s${t})`, 'maximum')};
    ${overColumns(tile, 'newMaximum', (a, b) => `max(${a}, ${b})`)}
    let rescale = exp2(maximum - newMaximum);
    maximum = newMaximum;
    sum *= rescale;
    ${spreadOverGroup('rescale', 'rescale', 0)}
    // After the first tiles a maximum seldom grows.
    if (any(vec4f(rescale0, rescale1, rescale2, rescale3) != vec4f(1.0))) {
      ${eachRegister(tile, valueDepth, (j, n) => `o${j}_${n} *= rescale${j};`)}
    }
    ${exchanges
      .map(
        (t) => `
    s${t} = exp2(s${t} - maximum);
    sum += s${t};
    ${variant.dropout ? `s${t} *= keepOfElement(head, ownRow, ${ownKey(t)});` : ''}`,
      )
      .join('\n')}
    ${exchanges.map((t) => lines(atOnce, (c) => weigh(t, c))).join('\n')}`;
}
