/**
 * WGSL of the forward kernel that multiplies in float16 (half_matrices_wgsl.ts): what forward_wgsl.ts does, but for the
 * running maximum. A matrix of sums cannot be scaled row by row where it is, only by way of workgroup memory. So rows keep
 * the reference that they have until a score exceeds it by {@link HEADROOM}, which after the first tiles is rare (as
 * FlashAttention-4 leaves out rescales by thresholds): probabilities may grow so far, and their sum is right all the same.
 *
 * Whether one does must be known to the whole workgroup, which costs a barrier per tile, and the code of the rescale costs
 * registers. Where all rows see the first tile of keys, workgroups trust its largest score to be reference enough, and look
 * at the end; if it was not, they start again. With a bias, masks, slopes or a layout that would happen too often.
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
import type {ColumnMemory} from './half_columns_wgsl.js';
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
  zeroResults,
} from './half_matrices_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, numberedTiles} from './live_tiles_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {enterQueryRows} from './turns_wgsl.js';

const stage: Stage = {scores: 1, weights: 1};

/** Powers of two by which a probability may exceed 1. Float16 ends at 2¹⁶, and dropout multiplies what it keeps. */
const HEADROOM = 8;
/** The same where workgroups trust their first tile. */
const trustedHeadroom = ({dropout}: AttentionVariant) => (dropout ? HEADROOM : 12);

const mayTrust = ({bias, mask, headTable, layout}: AttentionVariant) => !(bias || mask || headTable || layout);

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
  const parts = {variant, tile, ahead, keys, values};
  const body = `
${declareHalfMemory(tile, stage, [keys, values])}
// The first: the number of the last tile with a score that was too large, and 1, or just 1. The others fill 16 bytes.
var<workgroup> exceeded: array<atomic<u32>, 4>;
${(['q', 'k', 'v'] as const).map((name) => loadFunction(variant, name)).join('')}
${ahead.functions(variant)}
${storeFunction(variant, 'output')}
${headFunctions(variant, 'heads')}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${softmaxFunctions}

// Of the lanes that share a row.
fn largestOfFour(ofLane: f32) -> f32 {
  let ofTwo = max(ofLane, subgroupShuffleXor(ofLane, 1u));
  return max(ofTwo, subgroupShuffleXor(ofTwo, 2u));
}
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

  ${mayTrust(variant) ? trustFirstTile(parts) : rescaleWhereNeeded(parts)}

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

interface Parts {
  variant: AttentionVariant;
  tile: HalfTile;
  ahead: ColumnsAhead;
  keys: ColumnMemory;
  values: ColumnMemory;
}

const eachRow = (code: (i: number) => string) => laneRows.map(code).join('\n');

/** Goes over all keys and looks at the end whether the first tile was reference enough; if not, again, with rescales. */
function trustFirstTile(parts: Parts): string {
  const {variant, tile, ahead, keys, values} = parts;
  return `
  ${ahead.declareWhole(`keysThatAllSee(head, i32(rowStart), i32(rowStart) + ${tile.rows - 1})`)}
  var isRight = (whole.x == 0u) & (whole.y > 0u);
  if (isRight) {
    {
      ${ahead.enterTile('0u')}
      ${stageScores(parts)}
      ${scoresOfTile(parts, false)}
      ${eachRow((i) => `reference${i} = largestOfFour(largest(s${i}));`)}
    }
    var excess = 0.0;
    ${ahead.overWholeAndOtherTiles(
      (mayHide) => `
      ${scoresOfTile(parts, mayHide)}
      ${eachRow((i) => `excess = max(excess, largest(s${i} - reference${i}));`)}
      ${eachRow((i) => weigh(variant, i))}
      ${ahead.storeNext}
      workgroupBarrier();
      ${ahead.loadAhead}
      ${eachRow((i) => `sum${i} += share${i};`)}
      {
        // The next tile's scores: behind the last there are some of no use.
        let following = 1u - buffer;
        ${multiplyByColumns('s', 'queries', keys, 'following')}
        ${addWeightedColumns(stage, 0, 'o', values)}
        ${storeResult(stage, 0, 's')}
      }
      workgroupBarrier();`,
    )}
    if (excess > ${trustedHeadroom(variant)}.0) { atomicStore(&exceeded[0], 1u); }
    isRight = workgroupUniformLoad(&exceeded[0]) == 0u;
    if (!isRight) {
      ${eachRow((i) => `reference${i} = f32(${FLOOR}); sum${i} = 0.0;`)}
      ${zeroResults(variant.valueDepth, 'o')}
      ${ahead.loadFirst}
      ${ahead.storeFirst}
      workgroupBarrier();
    }
  }
  if (!isRight) {
    ${rescaleWhereNeeded(parts)}
  }`;
}

/** Goes over all keys, and gives rows another reference as soon as a score exceeds theirs. */
function rescaleWhereNeeded(parts: Parts): string {
  const {variant, ahead, values} = parts;
  return ahead.overTiles(`
    ${stageScores(parts)}
    ${scoresOfTile(parts, true)}
    if (${laneRows.map((i) => `(largest(s${i}) > reference${i} + ${HEADROOM}.0)`).join(' | ')}) {
      atomicStore(&exceeded[0], number + 1u);
    }
    // As if none were too large.
    ${eachRow((i) => weigh(variant, i))}
    ${ahead.storeNext}
    if (workgroupUniformLoad(&exceeded[0]) == number + 1u) {
      ${eachRow(
        (i) => `
      let largest${i} = largestOfFour(max(largest(s${i}), reference${i}));
      let rescale${i} = exp2(reference${i} - largest${i});
      reference${i} = largest${i};
      sum${i} *= rescale${i};
      ${weigh(variant, i)}`,
      )}
      ${eachStagedResult(
        stage,
        variant.valueDepth,
        'o',
        (quad, i) => `${quad} *= rescale${i};`,
        (d) => `workgroupBarrier();\no${d} = ${loadResult(stage, 0)};`,
      )}
      workgroupBarrier();
    }
    ${ahead.loadAhead}
    ${eachRow((i) => `sum${i} += share${i};`)}
    ${addWeightedColumns(stage, 0, 'o', values)}`);
}

/** A tile's scores into the stage. */
function stageScores({keys}: Parts): string {
  return `{
      ${multiplyByColumns('s', 'queries', keys)}
      ${storeResult(stage, 0, 's')}
    }
    workgroupBarrier();`;
}

/** Declares the lane's scores of what lies in the stage, and `share${i}`, to be filled. */
function scoresOfTile({variant, tile}: Parts, mayHide: boolean): string {
  const hide = (i: number) => `
    if (hidden) { s${i} = hideInvisible(head, s${i}, vec4i(i32(ownRow${i})), key); }
    ${hideDeadIn(variant, tile, `s${i} = hideDead(head, s${i}, vec4i(i32(ownRow${i})), key);`)}`;
  return `
    let key = ownColumns;
    ${mayHide ? `let hidden = hasHidden(head, i32(firstRow), i32(firstRow) + ${MATRIX_SIZE}, i32(columnStart), i32(columnStart) + ${tile.columns});` : ''}
    ${eachRow(
      (i) => `
    var s${i} = scoresOf(head, ${scoreQuad(stage, 0, i)}, vec4i(i32(ownRow${i})), key);
    ${mayHide ? hide(i) : ''}
    var share${i} = 0.0;`,
    )}`;
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
