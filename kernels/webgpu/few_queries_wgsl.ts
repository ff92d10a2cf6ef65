/**
 * WGSL of the forward kernel for few queries and many keys, which is bound by memory: every workgroup takes a few rows
 * through one chunk of the keys (Dao, Haziza, Massa and Sizov 2023, "Flash-Decoding for long-context inference"). Where
 * there are several chunks it leaves a part of each row for the kernel of chunk_merge_wgsl.ts.
 *
 * The rows of a tile are the queries of all heads that share a key head, so that each key and value is loaded once for all
 * of them. A group of G neighbouring lanes shares a key: each lane loads every G-th quad of it, 64 bytes and more next to
 * one another, and keeps the same quads of all rows, of q and of the output, in registers. So a quad of a key or a value
 * is loaded from memory once, by one lane, and goes through 4 multiply-adds for each row; with one row, a lane has the
 * loads of four keys under way at once, up to 16.
 *
 * What remains is the sum of products over a group. Each lane has the parts of four neighbouring keys in one vec4, which
 * pass through workgroup memory: one store for each row, and G loads by the one lane of the group that owns the row. That
 * lane computes softmax, of four keys at a time, and hands their weights back. With one row of 64 elements these are 3
 * stores and 6 loads, at the most, for a lane's 32 loads of keys and values and 256 multiply-adds.
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
  scoreFunctions,
  softmaxFunctions,
  storeFunction,
} from './attention_wgsl.js';
import {chunkBindings, mergeFunctions, mergeMaximum} from './chunk_merge_wgsl.js';
import type {FewQueriesTile} from './few_queries_tiles.js';
import {entryPoint, type Shader} from './shader.js';
import {lines, range} from './tile_wgsl.js';

/** Neighbouring keys that a lane group takes at once. */
const KEYS = 4;

/** Quads of a row of so many elements that each lane of a group holds. */
function quadsPerLane({lanes}: FewQueriesTile, depth: number): number {
  return Math.ceil(Math.ceil(depth / 4) / lanes);
}

/** The lane's n-th quad. */
function quadOf({lanes}: FewQueriesTile, n: number): string {
  return `(${n * lanes}u + lane)`;
}

/** Declares `${name}`: the lane's part of the product of a row and a key, as one chain of multiply-adds. */
function partialDot(tile: FewQueriesTile, depth: number, name: string, row: string, key: string): string {
  const terms = range(quadsPerLane(tile, depth)).flatMap((n) =>
    [...'xyzw'].map((c) => [`${row}_${n}.${c}`, `${key}_${n}.${c}`]),
  );
  const [[a, b], ...rest] = terms;
  return `let ${name} = ${rest.reduce((sum, [x, y]) => `fma(${x}, ${y}, ${sum})`, `${a} * ${b}`)};`;
}

/** Bytes of workgroup memory that the kernel takes with this tile. */
export function fewQueriesBytes({rows, lanes, threads}: FewQueriesTile): number {
  return 16 * rows * threads + (16 + 4) * rows * (threads / lanes);
}

/** The groups of a workgroup, and the keys that it takes in one turn. */
function groupsOf({lanes, threads}: FewQueriesTile): {groups: number; turnKeys: number} {
  const groups = threads / lanes;
  return {groups, turnKeys: KEYS * groups};
}

/**
 * The rows of which a lane computes the softmax: every G-th, from its own number on. `each` runs code for them, with the
 * row in the tile; lanes beyond the rows leave it out.
 */
function ownRows({rows, lanes}: FewQueriesTile) {
  const count = Math.ceil(rows / lanes);
  const row = (j: number) => `(lane + ${j * lanes}u)`;
  const each = (code: (j: number, row: string) => string) =>
    rows < lanes ? `if (lane < ${rows}u) { ${code(0, row(0))} }` : lines(count, (j) => code(j, row(j)));
  return {count, row, each};
}

/** Index into `weights` and `factors`. */
function ofRow(tile: FewQueriesTile, row: string): string {
  return `[${row} * ${groupsOf(tile).groups}u + group]`;
}

/** @param severalChunks whether the keys are cut into chunks, or one workgroup sees all of them and writes the results. */
export function fewQueriesShader(variant: AttentionVariant, tile: FewQueriesTile, severalChunks: boolean): Shader {
  const {rows, threads} = tile;
  const {groups, turnKeys} = groupsOf(tile);
  const body = `
${mergeFunctions(tile, rows * threads)}
// By row and group: the weights of four keys, and what the row's output so far is multiplied by.
var<workgroup> weights: array<vec4f, ${rows * groups}>;
var<workgroup> factors: array<f32, ${rows * groups}>;
${loadFunction(variant, 'q')}
${loadFunction(variant, 'k')}
${loadFunction(variant, 'v')}
${severalChunks ? '' : storeFunction(variant, 'output')}
${headFunctions(variant, 'heads')}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${softmaxFunctions}

// Of a row: the query head, counted from the first that shares its key head, and the query. Rows past the last are as that.
fn placeOf(row: u32) -> vec2u {
  let place = min(row, params.heads / params.keyHeads * params.queries - 1u);
  return vec2u(place / params.queries, place % params.queries);
}

${entryPoint(
  threads,
  `
  let chunk = workgroup % params.columnTiles;
  let rowTile = workgroup / params.columnTiles % params.rowTiles;
  let batchKeyHead = workgroup / (params.columnTiles * params.rowTiles);
  if (batchKeyHead >= params.batch * params.keyHeads) { return; }
  let lane = localIndex % ${tile.lanes}u;
  let group = localIndex / ${tile.lanes}u;
  let batch = batchKeyHead / params.keyHeads;
  let keyHead = batchKeyHead % params.keyHeads;
  let sharers = params.heads / params.keyHeads;
  let firstHead = keyHead * sharers;
  let firstRow = rowTile * ${rows}u;
  // For what the sharers of a key head have in common.
  let head = makeHead(batch, firstHead);
  let kBase = ${headBase(variant, 'k', 'batch', 'keyHead')};
  let vBase = ${headBase(variant, 'v', 'batch', 'keyHead')};
  let queryLimit = u32(head.queryLength);
  let keyLimit = u32(head.keyLength);

  // The keys that are seen at all are dealt out evenly, in whole turns.
  let seen = visibleKeys(head, 0, i32(params.queries) - 1);
  let firstKey = u32(seen.x) / ${KEYS}u * ${KEYS}u;
  let endKey = max(u32(max(seen.y, 0)), firstKey);
  let turns = (endKey - firstKey + ${turnKeys - 1}u) / ${turnKeys}u;
  let chunkStart = firstKey + chunk * turns / params.columnTiles * ${turnKeys}u;
  let chunkEnd = min(firstKey + (chunk + 1u) * turns / params.columnTiles * ${turnKeys}u, endKey);

  ${enterRows(variant, tile)}
  for (var turnStart = chunkStart; turnStart < chunkEnd; turnStart += ${turnKeys}u) {
    let key = turnStart + ${KEYS}u * group;
    ${shareProducts(variant, tile)}
    workgroupBarrier();
    ${softmaxOfOwnRows(variant, tile)}
    workgroupBarrier();
    ${addValues(variant, tile)}
  }
  ${mergeStats(tile, severalChunks)}
  workgroupBarrier();
  ${mergeOutputs(variant, tile, severalChunks)}`,
)}`;

  return attentionShader(
    [...forwardInputs(variant), ...(severalChunks ? chunkBindings('read_write') : forwardOutputs(variant))],
    body,
  );
}

/** Declares the lane's part of all rows, and the softmax of its own ones over the keys of its group. */
function enterRows(variant: AttentionVariant, tile: FewQueriesTile): string {
  const own = ownRows(tile);
  return `
  ${lines(
    tile.rows,
    (r) => `
  let place${r} = placeOf(firstRow + ${r}u);
  let qBase${r} = ${headBase(variant, 'q', 'batch', `(firstHead + place${r}.x)`)};
  ${eachQuad(tile, variant.depth, (n, quad) => `let q${r}_${n} = load_q(qBase${r}, queryLimit, place${r}.y, ${quad});`)}
  ${eachQuad(tile, variant.valueDepth, (n) => `var o${r}_${n} = vec4f();`)}`,
  )}
  ${lines(
    own.count,
    (j) => `
  let ownPlace${j} = placeOf(firstRow + ${own.row(j)});
  let ownHead${j} = makeHead(batch, firstHead + ownPlace${j}.x);
  let ownQuery${j} = i32(ownPlace${j}.y);
  var maximum${j} = f32(${FLOOR});
  var sum${j} = 0.0;`,
  )}`;
}

/** Runs code for each quad of a row that the lane holds. */
function eachQuad(tile: FewQueriesTile, depth: number, code: (n: number, quad: string) => string): string {
  return lines(quadsPerLane(tile, depth), (n) => code(n, quadOf(tile, n)));
}

/** Declares `${operand}${c}_${n}`, the lane's quads of the group's four keys or values. */
function loadTurn(tile: FewQueriesTile, depth: number, operand: 'k' | 'v'): string {
  const load = (c: number, quad: string) => `load_${operand}(${operand}Base, keyLimit, key + ${c}u, ${quad})`;
  return lines(KEYS, (c) => eachQuad(tile, depth, (n, quad) => `let ${operand}${c}_${n} = ${load(c, quad)};`));
}

/** The lane's share of the products of all rows with its group's keys. */
function shareProducts({depth}: AttentionVariant, tile: FewQueriesTile): string {
  return `
    ${loadTurn(tile, depth, 'k')}
    ${lines(
      tile.rows,
      (r) => `
    ${lines(KEYS, (c) => partialDot(tile, depth, `dot${r}_${c}`, `q${r}`, `k${c}`))}
    shares[${r * tile.threads}u + localIndex] = vec4f(dot${r}_0, dot${r}_1, dot${r}_2, dot${r}_3);`,
    )}`;
}

/** The online softmax of FlashAttention. */
function softmaxOfOwnRows(variant: AttentionVariant, tile: FewQueriesTile): string {
  const {turnKeys} = groupsOf(tile);
  return `
    let hasHiddenKeys = hasHidden(head, 0, i32(params.queries), i32(turnStart), i32(turnStart) + ${turnKeys});
    let keys = vec4i(i32(key)) + vec4i(0, 1, 2, 3);
    ${ownRows(tile).each(
      (j, row) => `
    let firstShare${j} = ${row} * ${tile.threads}u + group * ${tile.lanes}u;
    var scores${j} = shares[firstShare${j}];
    for (var i = 1u; i < ${tile.lanes}u; i++) { scores${j} += shares[firstShare${j} + i]; }
    scores${j} = scoresOf(ownHead${j}, scores${j}, vec4i(ownQuery${j}), keys);
    if (hasHiddenKeys) { scores${j} = hideInvisible(ownHead${j}, scores${j}, vec4i(ownQuery${j}), keys); }
    let newMaximum${j} = max(maximum${j}, largest(scores${j}));
    let rescale${j} = exp2(maximum${j} - newMaximum${j});
    maximum${j} = newMaximum${j};
    scores${j} = exp2(scores${j} - newMaximum${j});
    sum${j} = sum${j} * rescale${j} + dot(scores${j}, vec4f(1.0));
    ${variant.dropout ? `scores${j} *= keepOf(ownHead${j}, u32(ownQuery${j}), key / ${KEYS}u);` : ''}
    weights${ofRow(tile, row)} = scores${j};
    factors${ofRow(tile, row)} = rescale${j};`,
    )}`;
}

/** Adds the group's values, weighted, to the outputs of all rows. */
function addValues({valueDepth}: AttentionVariant, tile: FewQueriesTile): string {
  const weighted = (r: number, n: number) =>
    lines(KEYS, (c) => `o${r}_${n} = fma(vec4f(weights${r}.${'xyzw'[c]}), v${c}_${n}, o${r}_${n});`);
  return `
    ${loadTurn(tile, valueDepth, 'v')}
    ${lines(
      tile.rows,
      (r) => `
    let weights${r} = weights${ofRow(tile, `${r}u`)};
    let rescaleOf${r} = factors${ofRow(tile, `${r}u`)};
    ${eachQuad(
      tile,
      valueDepth,
      (n) => `o${r}_${n} *= rescaleOf${r};
    ${weighted(r, n)}`,
    )}`,
    )}`;
}

/** Merges the groups' softmax of each row, stores it, and leaves in `factors` what each group's output counts for. */
function mergeStats(tile: FewQueriesTile, severalChunks: boolean): string {
  const own = ownRows(tile);
  const factorOf = (j: number) =>
    severalChunks ? `select(0.0, factor${j}, exists${j})` : `select(0.0, factor${j} / total${j}, visible${j})`;
  const store = (j: number, row: string) =>
    severalChunks
      ? `chunkStats[workgroup * ${tile.rows}u + ${row}] = select(vec2f(${FLOOR}, 0.0), vec2f(totalMaximum${j}, total${j}), exists${j});`
      : `softmaxStats[ownHead${j}.index * params.queries + u32(ownQuery${j})] = statsOfRow(totalMaximum${j}, total${j}, visible${j});`;
  return `
  ${lines(
    own.count,
    (j) => `
  ${mergeMaximum(j)}
  let exists${j} = u32(ownQuery${j}) < queryLimit;
  ${severalChunks ? '' : `let visible${j} = sawSomething(total${j}) & exists${j};`}`,
  )}
  ${own.each(
    (j, row) => `
  factors${ofRow(tile, row)} = ${factorOf(j)};
  if (group == 0u && firstRow + ${row} < sharers * params.queries) { ${store(j, row)} }`,
  )}`;
}

/** Adds up the groups' outputs of each row, and stores them. */
function mergeOutputs(variant: AttentionVariant, tile: FewQueriesTile, severalChunks: boolean): string {
  const quads = Math.ceil(variant.valueDepth / 4);
  const {groups} = groupsOf(tile);
  const store = (r: number, n: number, quad: string) =>
    severalChunks
      ? `chunkOutputs[(workgroup * ${tile.rows}u + ${r}u) * ${quads}u + ${quad}] = merged${r}_${n};`
      : `store_output(oBase, place${r}.y, ${quad}, merged${r}_${n});`;
  return lines(
    tile.rows,
    (r) => `
  let factorOf${r} = factors${ofRow(tile, `${r}u`)};
  ${eachQuad(
    tile,
    variant.valueDepth,
    // Not 0 · o, which may be NaN.
    (n) =>
      `let merged${r}_${n} = sumOfGroups(localIndex, select(vec4f(), o${r}_${n} * factorOf${r}, factorOf${r} != 0.0));`,
  )}
  if (group == ${r % groups}u && firstRow + ${r}u < sharers * params.queries) {
    ${severalChunks ? '' : `let oBase = ${headBase(variant, 'output', 'batch', `(firstHead + place${r}.x)`)};`}
    ${eachQuad(tile, variant.valueDepth, (n, quad) => `if (${quad} < ${quads}u) { ${store(r, n, quad)} }`)}
  }`,
  );
}
