/**
 * WGSL that merges attention over several sets of keys into that over all of them (Dao et al. 2022, section 3.1). A part of
 * a row is its largest score in log2 units, `maximum`, the `sum` of exp2(score − maximum), and the values weighted in the
 * same way. Lane g of each group of G lanes has a part, and the groups of a workgroup have different sets of keys.
 */
import {
  type AttentionVariant,
  attentionShader,
  FLOOR,
  forwardOutputs,
  headBase,
  softmaxFunctions,
  storeFunction,
} from './attention_wgsl.js';
import type {FewQueriesTile} from './few_queries_tiles.js';
import {declareShares, maximum, plus, reductionFunction} from './reduction_wgsl.js';
import {type Binding, entryPoint, type Shader} from './shader.js';

/** The groups of a workgroup; both numbers are powers of two. */
export interface LaneGroups {
  lanes: number;
  threads: number;
}

/** Functions for {@link mergeMaximum}, and `sumOfGroups(localIndex, value)` for what is weighted by its factors. */
export function mergeFunctions({lanes, threads}: LaneGroups, shares = threads): string {
  const overGroups = {type: 'vec4f', count: threads / lanes, stride: lanes} as const;
  return `
${declareShares(shares, 'vec4f')}
${reductionFunction({...overGroups, name: 'largestOfGroups', combine: maximum})}
${reductionFunction({...overGroups, name: 'sumOfGroups', combine: plus})}`;
}

/**
 * Declares `total` and `totalMaximum`, the merged row, and `factor`, what this part is multiplied by to be added up; all
 * with the suffix that `maximum` and `sum` have. Contains barriers.
 */
export function mergeMaximum(suffix: number | '' = ''): string {
  return `
  let totalMaximum${suffix} = largestOfGroups(localIndex, vec4f(maximum${suffix})).x;
  let factor${suffix} = exp2(maximum${suffix} - totalMaximum${suffix});
  let total${suffix} = sumOfGroups(localIndex, vec4f(sum${suffix} * factor${suffix})).x;`;
}

/** What a chunk leaves of each row: `chunkStats`, its maximum and sum, and `chunkOutputs`, its weighted values. */
export const chunkBindings = (access: Binding['access']): Binding[] => [
  {name: 'chunkStats', access, element: 'vec2f'},
  {name: 'chunkOutputs', access, element: 'vec4f'},
];

/** Invocations of {@link chunkMergeShader}. */
const MERGE_THREADS = 128;

/** The second pass: a workgroup merges the chunks of one query row. */
export function chunkMergeShader(variant: AttentionVariant, {rows}: FewQueriesTile): Shader {
  const quads = Math.ceil(variant.valueDepth / 4);
  let lanes = 1;
  while (lanes < quads) lanes *= 2;
  return attentionShader(
    [...chunkBindings('read'), ...forwardOutputs(variant)],
    `
${mergeFunctions({lanes, threads: MERGE_THREADS})}
${storeFunction(variant, 'output')}
${softmaxFunctions}
${entryPoint(
  MERGE_THREADS,
  `
  if (workgroup >= params.batch * params.heads * params.queries) { return; }
  let batch = workgroup / params.queries / params.heads;
  let head = workgroup / params.queries % params.heads;
  let query = workgroup % params.queries;
  let sharers = params.heads / params.keyHeads;
  let row = head % sharers * params.queries + query;
  let rowTile = (batch * params.keyHeads + head / sharers) * params.rowTiles + row / ${rows}u;
  let quad = localIndex % ${lanes}u;

  var maximum = f32(${FLOOR});
  var sum = 0.0;
  var o = vec4f();
  for (var chunk = localIndex / ${lanes}u; chunk < params.columnTiles; chunk += ${MERGE_THREADS / lanes}u) {
    let part = (rowTile * params.columnTiles + chunk) * ${rows}u + row % ${rows}u;
    let stats = chunkStats[part];
    let newMaximum = max(maximum, stats.x);
    let rescale = exp2(maximum - newMaximum);
    let weight = exp2(stats.x - newMaximum);
    maximum = newMaximum;
    sum = sum * rescale + stats.y * weight;
    o = o * rescale + chunkOutputs[part * ${quads}u + min(quad, ${quads - 1}u)] * weight;
  }
  ${mergeMaximum()}
  let visible = sawSomething(total);
  let output = sumOfGroups(localIndex, o * factor) / total;
  if (localIndex < ${quads}u) {
    let oBase = ${headBase(variant, 'output', 'batch', 'head')};
    store_output(oBase, query, quad, select(vec4f(), output, visible));
  }
  if (localIndex == 0u) { softmaxStats[workgroup] = statsOfRow(totalMaximum, total, visible); }`,
)}`,
  );
}
