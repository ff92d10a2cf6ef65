/** WGSL of the kernel for dQ: a workgroup takes a tile of queries through all keys it sees; dQ = scale · Σ dS·K. */
import {
  type AttentionVariant,
  attentionShader,
  operandBinding,
  storeAccumulator,
  storeFunction,
} from './attention_wgsl.js';
import {overColumnTiles} from './live_tiles_wgsl.js';
import {declareRowStats, scoreGradient} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {accumulateColumns, columnWidth} from './tile_products.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {declareAccumulators, enterThreads, storeRows} from './tile_wgsl.js';

export function queryGradientShader(variant: AttentionVariant, tile: TileSizes): Shader {
  const {threads} = threadGrid(tile);
  const core = scoreGradient(variant, tile, 'queries', 'dots');
  const {quadsPerThread} = columnWidth(tile, variant.depth);
  const body = `
${core.declarations}
${storeFunction(variant, 'dq')}
${entryPoint(
  threads,
  `
  if (workgroup >= params.batch * params.heads * params.rowTiles) { return; }
  ${enterThreads(tile)}
  let rowStart = (params.rowTiles - 1u - workgroup % params.rowTiles) * ${tile.rows}u;
  let batch = workgroup / params.rowTiles / params.heads;
  let headOfQuery = workgroup / params.rowTiles % params.heads;
  ${core.enterHead}
  let seen = visibleKeys(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
  ${declareRowStats(tile)}
  ${core.keepRows}
  ${declareAccumulators(tile, 'dq', quadsPerThread)}

  let endKey = u32(max(seen.y, 0));
  ${overColumnTiles(
    variant,
    tile,
    'rowStart',
    'columnStart',
    ['u32(seen.x)', 'endKey'],
    `
    ${core.tile}
    ${storeRows(tile, core.weights, (i, n) => `d${i}_${n}`)}
    ${accumulateColumns(tile, variant.depth, 'dq', core.weights, core.scoreColumns, 'columnStart', true)}`,
  )}

  ${storeAccumulator(
    variant,
    'dq',
    tile,
    quadsPerThread,
    {base: 'qBase', limit: 'params.queries', row: (i) => `rowStart + threadRow * ${tile.threadRows}u + ${i}u`},
    (i, n) => `params.scale * dq${i}_${n}`,
  )}`,
)}`;
  return attentionShader([...core.bindings, operandBinding(variant, 'dq', 'read_write')], body);
}
