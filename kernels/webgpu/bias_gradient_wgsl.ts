/**
 * WGSL of the kernel for dBias. A workgroup owns one tile of queries × keys of one bias slice and adds up dS over the
 * batches and heads that share it; where the bias is constant along queries or keys too, it writes one partial sum per
 * tile, and the few that remain are added up by tfjs. No atomics, so the order of addition never changes.
 */
import {type AttentionVariant, attentionShader} from './attention_wgsl.js';
import {declareRowStats, scoreGradient} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {declareAccumulators, enterThreads, lines, rowOfSlot, rowQuad, storeRows} from './tile_wgsl.js';

/** Along which axes one element of the bias serves several scores. */
export interface BiasShape {
  sharedByBatches: boolean;
  sharedByHeads: boolean;
  sharedByQueries: boolean;
  sharedByKeys: boolean;
}

export function biasGradientShader(variant: AttentionVariant, tile: TileSizes, shape: BiasShape): Shader {
  const {threads} = threadGrid(tile);
  const core = scoreGradient(variant, tile, 'queries', 'scores');
  const quads = tile.threadColumns / 4;
  const loop = (name: string, shared: boolean, size: string, own: string) =>
    shared ? `for (var ${name} = 0u; ${name} < ${size}; ${name}++) {` : `{ let ${name} = ${own};`;
  const isLive = variant.layout
    ? ` && hasLiveBlock(head, i32(rowStart), i32(min(rowStart + ${tile.rows}u, params.queries)), i32(columnStart), i32(min(columnStart + ${tile.columns}u, params.keys)))`
    : '';
  const body = `
${core.declarations}
var<workgroup> sums: array<f32, ${tile.rows}>;
${entryPoint(
  threads,
  `
  let batches = ${shape.sharedByBatches ? '1u' : 'params.batch'};
  let heads = ${shape.sharedByHeads ? '1u' : 'params.heads'};
  if (workgroup >= batches * heads * params.rowTiles * params.columnTiles) { return; }
  ${enterThreads(tile)}
  let columnTile = workgroup % params.columnTiles;
  let rowTile = workgroup / params.columnTiles % params.rowTiles;
  let slice = workgroup / params.columnTiles / params.rowTiles;
  let columnStart = columnTile * ${tile.columns}u;
  let rowStart = rowTile * ${tile.rows}u;
  ${declareAccumulators(tile, 'g', quads)}

  ${loop('batch', shape.sharedByBatches, 'params.batch', 'slice / heads')}
  ${loop('headOfQuery', shape.sharedByHeads, 'params.heads', 'slice % heads')}
    ${core.enterHead}
    let seen = visibleKeys(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
    if (i32(columnStart) < seen.y && i32(columnStart) + ${tile.columns} > seen.x${isLive}) {
      ${variant.layout ? 'let hasDead = true;' : ''}
      workgroupBarrier();
      ${core.keepRows}
      ${declareRowStats(tile)}
      ${core.tile}
      ${lines(tile.threadRows, (i) => lines(quads, (n) => `g${i}_${n} += d${i}_${n};`))}
    }
  }}

  workgroupBarrier();
  ${storeRows(tile, core.weights, (i, n) => `g${i}_${n}`)}
  workgroupBarrier();
  ${writeGradient(tile, core.weights, shape)}`,
)}`;
  return attentionShader([...core.bindings, {name: 'dBias', access: 'read_write', element: 'f32'}], body);
}

/** Writes the tile, or its sums along queries and keys, from row memory. */
function writeGradient(tile: TileSizes, memory: {name: string; quads: number}, shape: BiasShape): string {
  const {threads} = threadGrid(tile);
  const each = (count: number, code: string) =>
    `for (var item = localIndex; item < ${count}u; item += ${threads}u) {\n${code}\n}`;
  const rowSum = `
var total = vec4f();
for (var quad = 0u; quad < ${memory.quads}u; quad++) { total += ${rowQuad(memory, 'slot', 'quad')}; }
let rowSum = dot(total, vec4f(1.0));`;
  if (shape.sharedByQueries && shape.sharedByKeys) {
    return `
${each(tile.rows, `let slot = item;\n${rowSum}\nsums[slot] = rowSum;`)}
workgroupBarrier();
if (localIndex == 0u) {
  var total = 0.0;
  for (var slot = 0u; slot < ${tile.rows}u; slot++) { total += sums[slot]; }
  dBias[workgroup] = total;
}`;
  }
  if (shape.sharedByKeys) {
    return each(
      tile.rows,
      `let slot = item;
let query = rowStart + ${rowOfSlot(tile, 'slot')};
if (query < params.queries) {
${rowSum}
  dBias[(slice * params.queries + query) * params.columnTiles + columnTile] = rowSum;
}`,
    );
  }
  const inKeys = `let key = columnStart + item % ${tile.columns}u;
if (key >= params.keys) { continue; }`;
  if (shape.sharedByQueries) {
    return each(
      tile.columns,
      `${inKeys}
var total = 0.0;
for (var slot = 0u; slot < ${tile.rows}u; slot++) { total += ${rowQuad(memory, 'slot', 'item / 4u')}[item % 4u]; }
dBias[(slice * params.rowTiles + rowTile) * params.keys + key] = total;`,
    );
  }
  return each(
    tile.rows * tile.columns,
    `${inKeys}
let slot = item / ${tile.columns}u;
let query = rowStart + ${rowOfSlot(tile, 'slot')};
if (query < params.queries) {
  dBias[(slice * params.queries + query) * params.keys + key] =
    ${rowQuad(memory, 'slot', `item % ${tile.columns}u / 4u`)}[item % 4u];
}`,
  );
}
