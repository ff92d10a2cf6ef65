/**
 * WGSL of the forward kernel that multiplies in float16 (half_matrices_wgsl.ts): what forward_wgsl.ts does, but for the
 * running maximum. A matrix of sums cannot be scaled row by row where it is, only by way of workgroup memory. So rows keep
 * the reference that they have until a score exceeds it by 2^{@link HEADROOM}, which after the first tiles is rare (as
 * FlashAttention-4 leaves out rescales by thresholds): probabilities may grow so far, and their sum is right all the same.
 */
import {
  type AttentionVariant,
  attentionShader,
  dropoutFunction,
  FLOOR,
  forwardInputs,
  forwardOutputs,
  headFunctions,
  loadFunction,
  operandSource,
  scoreFunctions,
  softmaxFunctions,
  storeFunction,
} from './attention_wgsl.js';
import {ColumnsAhead, type HalfOperand} from './half_columns_wgsl.js';
import {
  addWeightedColumns,
  declareHalfMemory,
  declareResults,
  eachStagedResult,
  enterHalfTile,
  halfBuiltins,
  halfBytes,
  halfDirectives,
  keepHalfRows,
  laneRows,
  loadResult,
  multiplyByColumns,
  type Stage,
  scoreQuad,
  storeHalfRows,
  storeResult,
  weightQuad,
} from './half_matrices_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, numberedTiles} from './live_tiles_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {enterQueryRows} from './turns_wgsl.js';

const stage: Stage = {scores: 1, weights: 1};

/** Powers of two by which a probability may exceed 1; float16 ends at 2¹⁶. */
const HEADROOM = 8;

function columnsOf({depth, valueDepth}: AttentionVariant) {
  return {keys: {name: 'keyMemory', depth}, values: {name: 'valueMemory', depth: valueDepth}};
}

/** Bytes of workgroup memory that the kernel takes with this tile. */
export function halfForwardBytes(variant: AttentionVariant, tile: HalfTile): number {
  return halfBytes(tile, stage, Object.values(columnsOf(variant))) + 16;
}

export function halfForwardShader(variant: AttentionVariant, tile: HalfTile): Shader {
  const {depth, valueDepth} = variant;
  const {keys, values} = columnsOf(variant);
  const tiles = numberedTiles(variant, tile, 'rowStart', ['u32(seen.x)', 'u32(max(seen.y, 0))']);
  const columns: HalfOperand[] = [
    {columns: keys, operand: 'k', limit: 'keyLimit'},
    {columns: values, operand: 'v', limit: 'keyLimit'},
  ];
  const ahead = new ColumnsAhead(tile, columns, tiles);
  const eachRow = (code: (i: number) => string) => laneRows.map(code).join('\n');
  const body = `
${declareHalfMemory(tile, stage, [keys, values])}
// The first: the number of the last tile with a score that was too large, and 1. The others fill 16 bytes.
var<workgroup> exceeded: array<atomic<u32>, 4>;
${(['q', 'k', 'v'] as const).map((name) => loadFunction(variant, name)).join('')}
${ahead.functions(variant)}
${storeFunction(variant, 'output')}
${headFunctions(variant, 'heads')}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${softmaxFunctions}
${entryPoint(
  tile.threads,
  `
  ${enterQueryRows(variant, tile, ['q', 'output'])}
  ${tiles.declare}
  ${enterHalfTile()}

  ${ahead.declare}
  ${ahead.loadFirst}
  ${keepHalfRows(stage, depth, 'queries', operandSource('q', 'qBase', 'queryLimit'))}
  ${ahead.storeFirst}
  ${declareResults(valueDepth, 'o')}
  // Of the lane's rows: what scores are compared with, and the sum over the lane's columns.
  ${eachRow((i) => `var reference${i} = f32(${FLOOR}); var sum${i} = 0.0;`)}
  workgroupBarrier();

  ${ahead.overTiles(`
    {
      ${multiplyByColumns('s', 'queries', keys)}
      ${storeResult(stage, 0, 's')}
    }
    workgroupBarrier();
    let key = ownColumns;
    let hidden = hasHidden(head, i32(firstRow), i32(firstRow) + ${MATRIX_SIZE}, i32(columnStart), i32(columnStart) + ${tile.columns});
    ${eachRow(
      (i) => `
    var s${i} = scoresOf(head, ${scoreQuad(stage, 0, i)}, vec4i(i32(ownRow${i})), key);
    if (hidden) { s${i} = hideInvisible(head, s${i}, vec4i(i32(ownRow${i})), key); }
    ${hideDeadIn(variant, tile, `s${i} = hideDead(head, s${i}, vec4i(i32(ownRow${i})), key);`)}
    var share${i} = 0.0;`,
    )}
    if (${laneRows.map((i) => `(largest(s${i}) > reference${i} + ${HEADROOM}.0)`).join(' | ')}) {
      atomicStore(&exceeded[0], number + 1u);
    }
    // As if none were too large.
    ${eachRow((i) => weigh(variant, i))}
    ${ahead.storeNext}
    if (workgroupUniformLoad(&exceeded[0]) == number + 1u) {
      ${eachRow(
        (i) => `
      var largest${i} = max(largest(s${i}), reference${i});
      largest${i} = max(largest${i}, subgroupShuffleXor(largest${i}, 1u));
      largest${i} = max(largest${i}, subgroupShuffleXor(largest${i}, 2u));
      let rescale${i} = exp2(reference${i} - largest${i});
      reference${i} = largest${i};
      sum${i} *= rescale${i};
      ${weigh(variant, i)}`,
      )}
      ${eachStagedResult(
        stage,
        valueDepth,
        'o',
        (quad, i) => `${quad} *= rescale${i};`,
        (d) => `workgroupBarrier();\no${d} = ${loadResult(stage, 0)};`,
      )}
      workgroupBarrier();
    }
    ${ahead.loadAhead}
    ${eachRow((i) => `sum${i} += share${i};`)}
    ${addWeightedColumns(stage, 0, 'o', values)}`)}

  ${eachRow(
    (i) => `
  sum${i} += subgroupShuffleXor(sum${i}, 1u);
  sum${i} += subgroupShuffleXor(sum${i}, 2u);
  let visible${i} = sawSomething(sum${i}) & (ownRow${i} < queryLimit);
  let factor${i} = select(0.0, 1.0 / sum${i}, visible${i});`,
  )}
  ${storeHalfRows(
    variant,
    stage,
    'output',
    {sums: 'o', base: 'outputBase', limit: 'params.queries'},
    // Not 0 · o, which may be NaN.
    (quad, i) => `select(vec4f(), ${quad} * factor${i}, visible${i})`,
  )}
  ${eachRow(
    (i) => `
  if ((ownQuad == 0u) & (ownRow${i} < params.queries)) {
    softmaxStats[head.index * params.queries + ownRow${i}] = statsOfRow(reference${i}, sum${i}, visible${i});
  }`,
  )}`,
  halfBuiltins,
)}`;

  return attentionShader(
    [...forwardInputs(variant), ...liveTilesBinding(variant), ...forwardOutputs(variant)],
    body,
    halfDirectives,
  );
}

/** The probabilities of the lane's i-th row, to be weights, and their `share` of the row's sum. */
function weigh(variant: AttentionVariant, i: number): string {
  const keep = variant.dropout ? ` * keepOf(head, ownRow${i}, columnStart / 4u + ownQuad)` : '';
  return `{
      let p = exp2(s${i} - reference${i});
      share${i} = dot(p, vec4f(1.0));
      ${weightQuad(stage, 0, i)} = vec4<f16>(p${keep});
    }`;
}
