/**
 * WGSL of the kernel for dK and dV: a workgroup takes a tile of keys of one key head through all queries that see it,
 * of all query heads that share it; dV = Σ Pᵀ·dO, dK = scale · Σ dSᵀ·Q.
 */
import {
  type AttentionVariant,
  attentionShader,
  headBase,
  operandBinding,
  storeAccumulator,
  storeFunction,
} from './attention_wgsl.js';
import {overColumnTiles} from './live_tiles_wgsl.js';
import {scoreGradient} from './score_gradient_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {accumulateColumns, columnWidth} from './tile_products.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {declareAccumulators, enterThreads, lines, type Source, storeRows} from './tile_wgsl.js';

/** Which of the two gradients a pass makes: both, unless the storage buffers do not suffice. */
export interface KeyValueOutputs {
  dk: boolean;
  dv: boolean;
}

export function keyValueGradientShader(variant: AttentionVariant, tile: TileSizes, outputs: KeyValueOutputs): Shader {
  const {threads} = threadGrid(tile);
  const core = scoreGradient(variant, tile, 'keys', outputs.dk ? 'dots' : 'nothing');
  const keyWidth = columnWidth(tile, variant.depth).quadsPerThread;
  const valueWidth = columnWidth(tile, variant.valueDepth).quadsPerThread;
  const store = (name: 'dk' | 'dv', base: string, width: number, factor: string) =>
    storeAccumulator(
      variant,
      name,
      tile,
      width,
      {base, limit: 'params.keys', row: (i) => `rowStart + threadRow * ${tile.threadRows}u + ${i}u`},
      (i, n) => `${factor}${name}${i}_${n}`,
    );
  // A tile's sum by itself, then into the total: sums over thousands of queries round less this way.
  const add = (name: 'dk' | 'dv', depth: number, columns: Source, waitFirst: boolean) => {
    const {quadsPerThread} = columnWidth(tile, depth);
    return `
    ${declareAccumulators(tile, 'part', quadsPerThread)}
    ${accumulateColumns(tile, depth, 'part', core.weights, columns, 'columnStart', waitFirst)}
    ${lines(tile.threadRows, (i) => lines(quadsPerThread, (n) => `${name}${i}_${n} += part${i}_${n};`))}`;
  };
  const addToDv = `{
    ${storeRows(tile, core.weights, (i, n) => `s${i}_${n}`)}
    ${add('dv', variant.valueDepth, core.valueColumns, true)}
  }`;
  const addToDk = `{
    ${outputs.dv ? 'workgroupBarrier();' : ''}
    ${storeRows(tile, core.weights, (i, n) => `d${i}_${n}`)}
    ${add('dk', variant.depth, core.scoreColumns, !outputs.dv)}
  }`;
  const body = `
${core.declarations}
${outputs.dk ? storeFunction(variant, 'dk') : ''}
${outputs.dv ? storeFunction(variant, 'dv') : ''}
${entryPoint(
  threads,
  `
  if (workgroup >= params.batch * params.keyHeads * params.rowTiles) { return; }
  ${enterThreads(tile)}
  // Under a causal mask the first keys are seen by the most queries, and they come first.
  let rowStart = workgroup % params.rowTiles * ${tile.rows}u;
  let batch = workgroup / params.rowTiles / params.keyHeads;
  let keyHead = workgroup / params.rowTiles % params.keyHeads;
  let kBase = ${headBase(variant, 'k', 'batch', 'keyHead')};
  let vBase = ${headBase(variant, 'v', 'batch', 'keyHead')};
  ${outputs.dk ? declareAccumulators(tile, 'dk', keyWidth) : ''}
  ${outputs.dv ? declareAccumulators(tile, 'dv', valueWidth) : ''}

  let groupSize = params.heads / params.keyHeads;
  for (var member = 0u; member < groupSize; member++) {
    let headOfQuery = keyHead * groupSize + member;
    ${core.enterHead}
    let qBase = ${headBase(variant, 'q', 'batch', 'headOfQuery')};
    let dOutputBase = ${headBase(variant, 'dOutput', 'batch', 'headOfQuery')};
    let seen = visibleQueries(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1});
    let endQuery = u32(max(seen.y, 0));
    if (member == 0u) {
      ${core.keepRows}
    }
    ${overColumnTiles(
      variant,
      tile,
      'rowStart',
      'columnStart',
      ['u32(seen.x)', 'endQuery'],
      `
      ${core.tile}
      ${outputs.dv ? addToDv : ''}
      ${outputs.dk ? addToDk : ''}`,
    )}
  }

  ${outputs.dk ? store('dk', 'kBase', keyWidth, 'params.scale * ') : ''}
  ${outputs.dv ? store('dv', 'vBase', valueWidth, '') : ''}`,
)}`;
  return attentionShader(
    [
      ...core.bindings,
      ...(outputs.dk ? [operandBinding(variant, 'dk', 'read_write')] : []),
      ...(outputs.dv ? [operandBinding(variant, 'dv', 'read_write')] : []),
    ],
    body,
  );
}
