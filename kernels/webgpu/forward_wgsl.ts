/**
 * WGSL of the forward kernel: one workgroup takes a tile of queries of one head through all keys it can see, with the
 * online softmax of FlashAttention (Dao et al. 2022, algorithm 1; the division by the sum comes last, as in
 * FlashAttention-2), and writes output and softmaxStats once.
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
  storeAccumulator,
  storeFunction,
} from './attention_wgsl.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, overColumnTiles} from './live_tiles_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {
  accumulateColumns,
  columnWidth,
  depthChunks,
  keepLeft,
  leftOperand,
  multiplyTransposed,
} from './tile_products.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {
  addProductFunction,
  declareAccumulators,
  declareColumnMemory,
  declareRowMemory,
  enterThreads,
  lines,
  range,
  rowMemoryBytes,
  storeRows,
} from './tile_wgsl.js';

/** Bytes of workgroup memory that the kernel takes with this tile. */
export function forwardWorkgroupBytes(variant: AttentionVariant, tile: TileSizes): number {
  const {threadsAcross} = threadGrid(tile);
  return (
    rowMemoryBytes(tile, depthChunks(tile, variant.depth).quads) +
    rowMemoryBytes(tile, tile.columns / 4) +
    tile.columnFloats * 4 +
    tile.rows * threadsAcross * 4
  );
}

export function forwardShader(variant: AttentionVariant, tile: TileSizes): Shader {
  const {threads, threadsAcross, threadsDown} = threadGrid(tile);
  const probabilityMemory = {name: 'probabilityMemory', quads: tile.columns / 4};
  const queries = leftOperand(tile, variant.depth, 'queryMemory', operandSource('q', 'qBase', 'queryLimit'));
  const keys = operandSource('k', 'kBase', 'keyLimit');
  const values = operandSource('v', 'vBase', 'keyLimit');
  const {quadsPerThread} = columnWidth(tile, variant.valueDepth);
  const scoreQuads = tile.threadColumns / 4;
  const queryOf = (i: number) => `queryStart + threadRow * ${tile.threadRows}u + ${i}u`;
  const reductionSlot = (i: number) => `(${i * threadsDown}u + threadRow) * ${threadsAcross}u`;

  // A loop over few slots costs some compilers more than the slots.
  const overReductionSlots = (i: number, code: (slot: string) => string) =>
    threadsAcross <= 4
      ? lines(threadsAcross, (t) => code(`reduction[${reductionSlot(i)} + ${t}u]`))
      : `for (var t = 0u; t < ${threadsAcross}u; t++) { ${code(`reduction[${reductionSlot(i)} + t]`)} }`;

  const body = `
var<workgroup> reduction: array<f32, ${tile.rows * threadsAcross}>;
${declareRowMemory(tile, queries.memory)}
${declareRowMemory(tile, probabilityMemory)}
${declareColumnMemory(tile)}
${addProductFunction}
${loadFunction(variant, 'q')}
${loadFunction(variant, 'k')}
${loadFunction(variant, 'v')}
${storeFunction(variant, 'output')}
${headFunctions(variant, 'heads')}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${softmaxFunctions}

${entryPoint(
  threads,
  `
  if (workgroup >= params.batch * params.heads * params.rowTiles) { return; }
  ${enterThreads(tile)}
  // Under a causal mask the last queries see the most keys: longest first fills the GPU evenly.
  let queryStart = (params.rowTiles - 1u - workgroup % params.rowTiles) * ${tile.rows}u;
  let batchHead = workgroup / params.rowTiles;
  let head = makeHead(batchHead / params.heads, batchHead % params.heads);
  let qBase = ${headBase(variant, 'q', 'head.batch', 'head.head')};
  let kBase = ${headBase(variant, 'k', 'head.batch', 'head.keyHead')};
  let vBase = ${headBase(variant, 'v', 'head.batch', 'head.keyHead')};
  let queryLimit = u32(head.queryLength);
  let keyLimit = u32(head.keyLength);
  let seen = visibleKeys(head, i32(queryStart), i32(queryStart) + ${tile.rows - 1});
  let firstKey = u32(seen.x);
  let endKey = u32(max(seen.y, 0));

  ${lines(tile.threadRows, (i) => `var maximum${i} = f32(${FLOOR}); var sum${i} = 0.0;`)}
  ${declareAccumulators(tile, 'o', quadsPerThread)}
  ${keepLeft(tile, queries, 'queryStart')}

  ${overColumnTiles(
    variant,
    tile,
    'queryStart',
    'keyStart',
    ['firstKey', 'endKey'],
    `
    ${declareAccumulators(tile, 's', scoreQuads)}
    ${multiplyTransposed(tile, variant.depth, 's', queries, 'queryStart', keys, 'keyStart')}

    ${scoresOfTile(variant, tile, 'queryStart', queryOf)}

    // The new maximum of each row over the invocations that share it.
    ${lines(tile.threadRows, (i) => {
      const own = range(scoreQuads).map((n) => `largest(s${i}_${n})`);
      return `reduction[${reductionSlot(i)} + threadColumn] = ${own.reduce((a, b) => `max(${a}, ${b})`)};`;
    })}
    workgroupBarrier();
    ${lines(
      tile.threadRows,
      (i) => `
    var newMaximum${i} = maximum${i};
    ${overReductionSlots(i, (slot) => `newMaximum${i} = max(newMaximum${i}, ${slot});`)}`,
    )}
    ${weightsOfTile(variant, tile, quadsPerThread, queryOf)}
    ${storeRows(tile, probabilityMemory, (i, n) => `s${i}_${n}`)}
    ${accumulateColumns(tile, variant.valueDepth, 'o', probabilityMemory, values, 'keyStart', false)}`,
  )}

  // Each invocation summed its own columns; a row's sum is over all of them.
  ${lines(tile.threadRows, (i) => `reduction[${reductionSlot(i)} + threadColumn] = sum${i};`)}
  workgroupBarrier();
  ${lines(
    tile.threadRows,
    (i) => `sum${i} = 0.0;
  ${overReductionSlots(i, (slot) => `sum${i} += ${slot};`)}`,
  )}
  ${storeRowsOfOutput(variant, tile, quadsPerThread, queryOf)}`,
)}`;

  return attentionShader([...forwardInputs(variant), ...liveTilesBinding(variant), ...forwardOutputs(variant)], body);
}

const keyQuad = (tile: TileSizes, n: number) =>
  `(keyStart / 4u + ${n * threadGrid(tile).threadsAcross}u + threadColumn)`;

function eachScore(tile: TileSizes, line: (i: number, n: number) => string): string {
  return lines(tile.threadRows, (i) => lines(tile.threadColumns / 4, (n) => line(i, n)));
}

/** Makes of the dots `s…` scores, with what is hidden hidden. Needs `head` and `keyStart`; `rowStart` is the first query. */
export function scoresOfTile(
  variant: AttentionVariant,
  tile: TileSizes,
  rowStart: string,
  queryOf: (i: number) => string,
): string {
  const change = (name: string) =>
    eachScore(
      tile,
      (i, n) =>
        `s${i}_${n} = ${name}(head, s${i}_${n}, vec4i(i32(${queryOf(i)})), 4 * i32${keyQuad(tile, n)} + vec4i(0, 1, 2, 3));`,
    );
  return `
    ${change('scoresOf')}
    if (hasHidden(head, i32(${rowStart}), i32(${rowStart}) + ${tile.rows}, i32(keyStart), i32(keyStart) + ${tile.columns})) {
      ${change('hideInvisible')}
    }
    ${hideDeadIn(variant, tile, change('hideDead'))}`;
}

/**
 * Makes of the scores `s…` weights, and rescales `sum…` and the output rows `o…`, when `newMaximum…` takes the place of
 * `maximum…`. Sums are over the own columns.
 */
export function weightsOfTile(
  variant: AttentionVariant,
  tile: TileSizes,
  quadsPerThread: number,
  queryOf: (i: number) => string,
): string {
  return `
    ${lines(
      tile.threadRows,
      (i) => `let rescale${i} = exp2(maximum${i} - newMaximum${i});
    maximum${i} = newMaximum${i};
    sum${i} *= rescale${i};
    ${lines(quadsPerThread, (n) => `o${i}_${n} *= rescale${i};`)}`,
    )}
    ${eachScore(
      tile,
      (i, n) => `s${i}_${n} = exp2(s${i}_${n} - maximum${i});
    sum${i} += dot(s${i}_${n}, vec4f(1.0));
    ${variant.dropout ? `s${i}_${n} *= keepOf(head, ${queryOf(i)}, ${keyQuad(tile, n)});` : ''}`,
    )}`;
}

/**
 * Stores the output rows `o…` over their sums, and the statistics of rows. Needs `head`, `queryLimit`, `threadColumn` and, of
 * all columns, `maximum…` and `sum…`.
 */
export function storeRowsOfOutput(
  variant: AttentionVariant,
  tile: TileSizes,
  quadsPerThread: number,
  queryOf: (i: number) => string,
): string {
  return `
  let oBase = ${headBase(variant, 'output', 'head.batch', 'head.head')};
  ${lines(
    tile.threadRows,
    (i) => `
  let visible${i} = sawSomething(sum${i}) & (${queryOf(i)} < queryLimit);
  let factor${i} = select(0.0, 1.0 / sum${i}, visible${i});`,
  )}
  ${storeAccumulator(
    variant,
    'output',
    tile,
    quadsPerThread,
    {base: 'oBase', limit: 'params.queries', row: queryOf},
    // Not 0 · o, which may be NaN.
    (i, n) => `select(vec4f(), o${i}_${n} * factor${i}, visible${i})`,
  )}
  if (threadColumn == 0u) {
    ${lines(
      tile.threadRows,
      (i) => `if (${queryOf(i)} < params.queries) {
      softmaxStats[head.index * params.queries + ${queryOf(i)}] = statsOfRow(maximum${i}, sum${i}, visible${i});
    }`,
    )}
  }`;
}
