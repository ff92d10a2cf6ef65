/**
 * WGSL emitters for where a workgroup stands among the score matrices, in kernels whose workgroups take the rows of a tile
 * through all columns that these see: rows of queries, or of keys.
 */
import {type AttentionVariant, headBase, type Operand} from './attention_wgsl.js';
import type {TileArea} from './live_tiles_wgsl.js';

type TileRows = Pick<TileArea, 'rows'>;

/** Whose rows a dispatch takes: those of all score matrices, or of a group of them (stored_gradient.ts). */
export type RowsTaken = 'all' | 'ofGroup';

/**
 * Declares `matrix`, one of the score matrices, and `turn`, from 0 to params.rowTiles − 1; in a group, which no layout has, also
 * `placeInGroup`. Some matrices take turns side by side (`matricesAbreast` in tiled_work.ts), the longest first.
 */
function enterTurn({layout}: AttentionVariant, all: string, taken: RowsTaken = 'all'): string {
  const matrices = taken === 'ofGroup' ? 'params.groupMatrices' : all;
  // Under a layout single rows may have many times the tiles of others: those of all matrices come first.
  if (layout) {
    return `
  if (workgroup >= ${matrices} * params.rowTiles) { return; }
  let matrix = workgroup % (${matrices});
  let turn = workgroup / (${matrices});`;
  }
  return `
  if (workgroup >= ${matrices} * params.rowTiles) { return; }
  // All sets are about as large: the long turns of a small one, alone at the end, would leave most of the GPU waiting.
  let sets = max(${matrices} / params.abreast, 1u);
  let ofSet = (${matrices} + sets - 1u) / sets;
  let firstOfSet = workgroup / (ofSet * params.rowTiles) * ofSet;
  let abreast = min(ofSet, ${matrices} - firstOfSet);
  let place = workgroup - firstOfSet * params.rowTiles;
  let turn = place / abreast;
  let placeInGroup = firstOfSet + place % abreast;
  let matrix = params.firstMatrix + placeInGroup;`;
}

/** Bases of the operands of one head: `${name}Base`. */
function declareBases(variant: AttentionVariant, operands: Operand[], batch: string, head: string): string {
  return operands.map((name) => `let ${name}Base = ${headBase(variant, name, batch, head)};`).join('\n');
}

/**
 * Where rows are queries: declares `rowStart`, `head`, bases of k, v and the given operands of queries, `queryLimit`,
 * `keyLimit` and `seen`, the keys that the rows see.
 */
export function enterQueryRows(
  variant: AttentionVariant,
  {rows}: TileRows,
  operands: Operand[],
  taken?: RowsTaken,
): string {
  return `
  ${enterTurn(variant, 'params.batch * params.heads', taken)}
  // Under a causal mask the last queries see the most keys.
  let rowStart = (params.rowTiles - 1u - turn) * ${rows}u;
  let head = makeHead(matrix / params.heads, matrix % params.heads);
  ${declareBases(variant, operands, 'head.batch', 'head.head')}
  ${declareBases(variant, ['k', 'v'], 'head.batch', 'head.keyHead')}
  let queryLimit = u32(head.queryLength);
  let keyLimit = u32(head.keyLength);
  let seen = visibleKeys(head, i32(rowStart), i32(rowStart) + ${rows - 1});`;
}

/** The same from the table of rows that are cut into parts (long_rows.ts): besides, `part`, `parts` and `slot`. */
function enterTurnOfTable(matrices: string): string {
  return `
  if (workgroup >= ${matrices} * params.turns) { return; }
  let matrix = workgroup % (${matrices});
  let entry = firstTurn() + 4u * (workgroup / (${matrices}));
  let turn = u32(liveTiles[entry]);
  let part = u32(liveTiles[entry + 1u]);
  let parts = u32(liveTiles[entry + 2u]);
  let slot = u32(liveTiles[entry + 3u]);`;
}

/**
 * Where rows are keys: declares `rowStart`, `batch`, `keyHead`, `groupSize`, the heads that share these keys, bases of k and
 * v, and `keyLimit`; of parts of rows (long_rows.ts), also what {@link enterTurnOfTable} does.
 */
export function enterKeyRows(variant: AttentionVariant, {rows}: TileRows, taken?: RowsTaken | 'inParts'): string {
  const matrices = 'params.batch * params.keyHeads';
  return `
  ${taken === 'inParts' ? enterTurnOfTable(matrices) : enterTurn(variant, matrices, taken)}
  // Under a causal mask the first keys are seen by the most queries.
  let rowStart = turn * ${rows}u;
  let batch = matrix / params.keyHeads;
  let keyHead = matrix % params.keyHeads;
  let groupSize = params.heads / params.keyHeads;
  ${declareBases(variant, ['k', 'v'], 'batch', 'keyHead')}
  // Lengths are those of the sample.
  let keyLimit = u32(makeHead(batch, keyHead * groupSize).keyLength);`;
}

/** Then, for each `member` of the group: `head`, bases of q and dOutput, `queryLimit`, and `seen`, the queries that see the rows. */
export function enterMember(variant: AttentionVariant, {rows}: TileRows): string {
  return `
    let head = makeHead(batch, keyHead * groupSize + member);
    let queryLimit = u32(head.queryLength);
    ${declareBases(variant, ['q', 'dOutput'], 'batch', 'head.head')}
    let seen = visibleQueries(head, i32(rowStart), i32(rowStart) + ${rows - 1});`;
}
