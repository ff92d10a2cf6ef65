/**
 * WGSL for rows of tiles that are cut into parts (long_rows.ts), in the kernel that makes dK and dV: a part's sums go to
 * `partial`, and the kernel here adds those of a row up.
 */
import {
  type AttentionVariant,
  attentionShader,
  headBase,
  operandBinding,
  operandDepth,
  storeFunction,
} from './attention_wgsl.js';
import {declareFirstEntry, liveTilesBinding} from './live_tiles_wgsl.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {quadsOfSum} from './outer_attention_wgsl.js';
import {outerRow} from './outer_products_wgsl.js';
import {type Binding, entryPoint, type Shader} from './shader.js';
import {threadGrid} from './tile_sizes.js';
import {lines} from './tile_wgsl.js';

const GRADIENTS = ['dk', 'dv'] as const;

/** Quads of a row of dK and dV, one after the other, in `partial`. */
export function partialQuads({depth, valueDepth}: AttentionVariant): number {
  return Math.ceil(depth / 4) + Math.ceil(valueDepth / 4);
}

const firstQuad = (variant: AttentionVariant, name: 'dk' | 'dv') => (name === 'dk' ? 0 : Math.ceil(variant.depth / 4));

export const partialBinding = (access: Binding['access']): Binding => ({name: 'partial', access, element: 'vec4f'});

/** WGSL `firstTurn()`, where the table of turns begins in `liveTiles`. */
export const turnsFunction = `
fn firstTurn() -> u32 {
  ${declareFirstEntry}
  return firstEntry + u32(liveTiles[params.layoutHeads * params.rowTiles]);
}`;

/** Stores a part's sums `${name}${row}_${quad}`. Needs `matrix` and `slot`. */
export function storePart(variant: AttentionVariant, tile: OuterTile): string {
  const {threadsAcross} = threadGrid(tile);
  const stride = partialQuads(variant);
  const store = (name: 'dk' | 'dv', i: number) => {
    const quads = Math.ceil(operandDepth(variant, name) / 4);
    return lines(quadsOfSum(tile, operandDepth(variant, name)), (n) => {
      const quad = `(${n * threadsAcross}u + threadColumn)`;
      const line = `partial[place + ${firstQuad(variant, name)}u + ${quad}] = ${name}${i}_${n};`;
      return (n + 1) * threadsAcross <= quads ? line : `if (${quad} < ${quads}u) { ${line} }`;
    });
  };
  return lines(
    tile.threadRows,
    (i) => `{
    let place = ((matrix * params.slots + slot) * ${tile.rows}u + ${outerRow(tile, i)}) * ${stride}u;
    ${GRADIENTS.map((name) => store(name, i)).join('\n')}
  }`,
  );
}

export const SUM_THREADS = 64;

/** Quads that the kernel below sums for each matrix and row that is cut. */
export function quadsOfCutRow(variant: AttentionVariant, tile: OuterTile): number {
  return tile.rows * partialQuads(variant);
}

/** An invocation adds up one quad of one row over the parts. */
export function partSumShader(variant: AttentionVariant, tile: OuterTile): Shader {
  const stride = partialQuads(variant);
  const body = `
${turnsFunction}
${GRADIENTS.map((name) => storeFunction(variant, name)).join('')}
${entryPoint(
  SUM_THREADS,
  `
  let item = workgroup * ${SUM_THREADS}u + localIndex;
  let quad = item % ${stride}u;
  let row = item / ${stride}u % ${tile.rows}u;
  let cut = item / ${quadsOfCutRow(variant, tile)}u % params.cutRows;
  let matrix = item / ${quadsOfCutRow(variant, tile)}u / params.cutRows;
  if (matrix >= params.batch * params.keyHeads) { return; }
  let entry = firstTurn() + 4u * params.turns + 3u * cut;
  let key = u32(liveTiles[entry]) * ${tile.rows}u + row;
  if (key >= params.keys) { return; }
  let first = matrix * params.slots + u32(liveTiles[entry + 1u]);
  var sum = vec4f();
  for (var part = 0u; part < u32(liveTiles[entry + 2u]); part++) {
    sum += partial[((first + part) * ${tile.rows}u + row) * ${stride}u + quad];
  }
  let batch = matrix / params.keyHeads;
  let keyHead = matrix % params.keyHeads;
  if (quad < ${firstQuad(variant, 'dv')}u) {
    store_dk(${headBase(variant, 'dk', 'batch', 'keyHead')}, key, quad, params.scale * sum);
  } else {
    store_dv(${headBase(variant, 'dv', 'batch', 'keyHead')}, key, quad - ${firstQuad(variant, 'dv')}u, sum);
  }`,
)}`;
  const written = GRADIENTS.map((name) => operandBinding(variant, name, 'read_write'));
  return attentionShader([...liveTilesBinding(variant), partialBinding('read'), ...written], body);
}
