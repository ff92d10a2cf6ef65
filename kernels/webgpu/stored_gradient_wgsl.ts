/**
 * WGSL for dS that is passed on (stored_gradient.ts): how the kernel for dK and dV stores it, and the kernel for dQ, which is a
 * plain product. `scoreGradients` holds, of each query head of a group, rows of keys of whole tiles, four queries to a quad.
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
import {type ProductTile, productTile, threadGrid} from './tile_sizes.js';
import {declareAccumulators, lines} from './tile_wgsl.js';
import {enterQueryRows} from './turns_wgsl.js';

export const storedBinding = (access: Binding['access']): Binding => ({
  name: 'scoreGradients',
  access,
  element: 'vec4f',
});

/** Declares `queryQuads`, of a row, and `stored`, where the member's head begins. Needs what `enterMember` does. */
export function enterStored({rows, columns}: OuterTile): string {
  return `
    let queryQuads = params.columnTiles * ${columns / 4}u;
    let stored = (placeInGroup * groupSize + member) * params.rowTiles * ${rows}u * queryQuads;`;
}

/** Stores `d${row}_${quad}` of a tile whose rows are keys. */
export function storeTile(tile: OuterTile): string {
  const {threadsAcross} = threadGrid(tile);
  return lines(
    tile.threadRows,
    (i) => `{
      let first = stored + (rowStart + ${outerRow(tile, i)}) * queryQuads + columnStart / 4u + threadColumn;
      ${lines(tile.threadColumns / 4, (n) => `scoreGradients[first + ${n * threadsAcross}u] = d${i}_${n};`)}
    }`,
  );
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
export function storedQueryGradientShader(variant: AttentionVariant, tile: OuterTile): Shader {
  const product = storedQueryTile(variant, tile);
  const keys = sourceInChunks(headOperand(variant, 'k', variant.depth, 'keyLimit'), product.columns);
  const keyOfChunk = (row: string) => `firstKey + ahead * ${INNER}u + ${row}`;
  const chunks = transferBoth(
    product,
    transferLeft(
      product,
      {load: (row, quad) => `scoreGradients[stored + (${keyOfChunk(row)}) * queryQuads + ${quad}]`},
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
${entryPoint(
  threadGrid(product).threads,
  `
  ${enterQueryRows(variant, product, ['q'], 'group')}
  // Chunks do not straddle tiles of keys, of which the other kernel made all that these queries see any key of.
  let firstKey = u32(seen.x) / ${INNER}u * ${INNER}u;
  let endKey = max(u32(max(seen.y, 0)), firstKey);
  let chunks = (endKey - firstKey + ${INNER - 1}u) / ${INNER}u;
  let queryQuads = params.rowTiles * ${tile.columns / 4}u;
  let stored = placeInGroup * params.columnTiles * ${tile.rows}u * queryQuads + rowStart / 4u;
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
