/**
 * WGSL for dS that is passed on (stored_gradient.ts): how the kernel for dK and dV stores it, and the kernel for dQ, which is a
 * plain product. `scoreGradients` holds tiles of each query head of a group, one after the other: rows of keys, four queries to
 * a quad.
 */
import {
  type AttentionVariant,
  attentionShader,
  headFunctions,
  loadFunction,
  loadInsideFunction,
  operandBinding,
  storeAccumulator,
  storeFunction,
} from './attention_wgsl.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {headOperand, overChunks, sourceInChunks} from './outer_attention_wgsl.js';
import {
  declareOuterMemory,
  enterOuterTile,
  multiplyOuter,
  outerMemoryQuads,
  outerRow,
  transferBoth,
  transferLeft,
  transferRight,
} from './outer_products_wgsl.js';
import {type Binding, entryPoint, type Shader} from './shader.js';
import type {StoredTiles} from './stored_gradient.js';
import {type ProductTile, productTile, threadGrid} from './tile_sizes.js';
import {declareAccumulators, lines} from './tile_wgsl.js';
import {enterQueryRows} from './turns_wgsl.js';

export const storedBinding = (access: Binding['access']): Binding => ({
  name: 'scoreGradients',
  access,
  element: 'vec4f',
});

const tileQuads = ({rows, columns}: OuterTile) => (rows * columns) / 4;

/** WGSL function `storedTile`: where a tile of the head begins whose tiles begin at `stored`. */
export function storedFunctions(tile: OuterTile, shape: StoredTiles['shape']): string {
  const place = {
    full: 'row * params.storedPitch + column',
    triangle: 'row * params.storedPitch - row * (row + 1u) / 2u + column',
    band: 'row * params.storedPitch + params.storedBefore + column - row',
  };
  return `
fn storedTile(stored: u32, row: u32, column: u32) -> u32 {
  return stored + (${place[shape]}) * ${tileQuads(tile)}u;
}`;
}

/** Declares `stored`, where the tiles of a head of the group begin. */
export function enterStored(tile: OuterTile, headInGroup: string): string {
  return `let stored = (${headInGroup}) * params.storedTiles * ${tileQuads(tile)}u;`;
}

/** Stores `d${row}_${quad}` of a tile whose rows are keys. */
export function storeTile(tile: OuterTile): string {
  const {threadsAcross} = threadGrid(tile);
  const {rows, columns} = tile;
  return `{
  let ofTile = storedTile(stored, rowStart / ${rows}u, columnStart / ${columns}u);
  ${lines(
    tile.threadRows,
    (i) => `{
    let first = ofTile + (${outerRow(tile, i)}) * ${columns / 4}u + threadColumn;
    ${lines(tile.threadColumns / 4, (n) => `scoreGradients[first + ${n * threadsAcross}u] = d${i}_${n};`)}
  }`,
  )}
}`;
}

/** Keys of a chunk. */
const INNER = 16;

/** Of the product that makes dQ from what the other kernel stores in these tiles: its queries, and all of the head. */
export function storedQueryTile({depth}: AttentionVariant, {columns}: OuterTile): ProductTile {
  const threadsAcross = depth <= 64 ? 8 : 16;
  const threadColumns = 4 * Math.ceil(depth / (4 * threadsAcross));
  return productTile('packed', [columns, threadColumns * threadsAcross], [8, threadColumns], INNER);
}

/** @param tile that of the kernel that stores dS */
export function storedQueryGradientShader(
  variant: AttentionVariant,
  tile: OuterTile,
  shape: StoredTiles['shape'],
): Shader {
  const product = storedQueryTile(variant, tile);
  const keys = sourceInChunks(headOperand(variant, 'k', variant.depth, 'keyLimit'), product.columns);
  const keyOfChunk = (row: string) => `firstKey + ahead * ${INNER}u + ${row}`;
  const chunks = transferBoth(
    product,
    transferLeft(
      product,
      {load: (row, quad) => `loadStored(stored, ${keyOfChunk(row)}, rowStart / ${tile.columns}u, ${quad})`},
      true,
    ),
    transferRight(product, {load: (row, quad) => keys.load(keyOfChunk(row), quad)}, true),
    'dq',
  );
  const quads = product.threadColumns / 4;
  const body = `
${declareOuterMemory(outerMemoryQuads([product]))}
${headFunctions(variant, 'stats')}
${loadFunction(variant, 'k')}
${loadInsideFunction(variant, 'k')}
${storeFunction(variant, 'dq')}
${storedFunctions(tile, shape)}
fn loadStored(stored: u32, key: u32, column: u32, quad: u32) -> vec4f {
  return scoreGradients[storedTile(stored, key / ${tile.rows}u, column) + key % ${tile.rows}u * ${tile.columns / 4}u + quad];
}
${entryPoint(
  threadGrid(product).threads,
  `
  ${enterQueryRows(variant, product, ['q'], 'ofGroup')}
  // Chunks do not straddle tiles of keys, of which the other kernel made all that these queries see any key of.
  let firstKey = u32(seen.x) / ${INNER}u * ${INNER}u;
  let endKey = max(u32(max(seen.y, 0)), firstKey);
  let chunks = (endKey - firstKey + ${INNER - 1}u) / ${INNER}u;
  ${enterStored(tile, 'placeInGroup')}
  ${enterOuterTile(product)}
  ${declareAccumulators(product, 'dq', quads)}
  ${overChunks({loadsPastEnd: false}, 'chunks', chunks, '', multiplyOuter(product, 'dq'))}
  ${storeAccumulator(
    variant,
    'dq',
    product,
    quads,
    {base: 'qBase', limit: 'params.queries', row: (i) => `rowStart + ${outerRow(product, i)}`},
    (i, n) => `params.scale * dq${i}_${n}`,
  )}`,
)}`;
  return attentionShader(
    [
      operandBinding(variant, 'k', 'read'),
      {name: 'stats', access: 'read', element: 'vec4f'},
      storedBinding('read'),
      operandBinding(variant, 'dq', 'read_write'),
    ],
    body,
  );
}
