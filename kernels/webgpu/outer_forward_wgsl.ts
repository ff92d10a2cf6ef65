/**
 * WGSL of the forward kernel for devices with wide SIMD groups: what forward_wgsl.ts does, with both products as sums of outer
 * products (outer_attention_wgsl.ts). Nothing of a tile stays in workgroup memory, which leaves room for more workgroups.
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
  loadInsideFunction,
  scoreFunctions,
  softmaxFunctions,
  storeFunction,
} from './attention_wgsl.js';
import {scoresOfTile, storeRowsOfOutput, weightsOfTile} from './forward_wgsl.js';
import {layoutFunctions, liveTilesBinding, overColumnTiles} from './live_tiles_wgsl.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {
  addWeighted,
  declareTileMemory,
  headOperand,
  multiplyTransposed,
  overRows,
  quadsOfSum,
  tileMemoryBytes,
} from './outer_attention_wgsl.js';
import {enterOuterTile, outerRow} from './outer_products_wgsl.js';
import {entryPoint, type Shader} from './shader.js';
import {threadGrid} from './tile_sizes.js';
import {declareAccumulators, lines, range} from './tile_wgsl.js';
import {enterQueryRows} from './turns_wgsl.js';

/** Bytes of workgroup memory that the kernel takes with this tile. */
export function outerForwardBytes({valueDepth}: AttentionVariant, tile: OuterTile): number {
  return tileMemoryBytes(tile, [valueDepth]);
}

export function outerForwardShader(variant: AttentionVariant, tile: OuterTile): Shader {
  const {depth, valueDepth} = variant;
  const {threads} = threadGrid(tile);
  const q = headOperand(variant, 'q', depth, 'queryLimit');
  const k = headOperand(variant, 'k', depth, 'keyLimit');
  const v = headOperand(variant, 'v', valueDepth, 'keyLimit');
  const scoreQuads = tile.threadColumns / 4;
  const sumQuads = quadsOfSum(tile, valueDepth);
  const eachRow = (line: (i: number) => string) => lines(tile.threadRows, line);
  const queryOf = (i: number) => `rowStart + ${outerRow(tile, i)}`;

  const body = `
${declareTileMemory(tile, [valueDepth])}
${(['q', 'k', 'v'] as const).map((name) => loadFunction(variant, name) + loadInsideFunction(variant, name)).join('')}
${storeFunction(variant, 'output')}
${headFunctions(variant, 'heads')}
${scoreFunctions(variant)}
${dropoutFunction(variant)}
${layoutFunctions(variant)}
${softmaxFunctions}
${entryPoint(
  threads,
  `
  ${enterQueryRows(variant, tile, ['q'])}
  let firstKey = u32(seen.x);
  let endKey = u32(max(seen.y, 0));
  ${enterOuterTile(tile)}
  // Sums are over the own columns.
  ${eachRow((i) => `var maximum${i} = f32(${FLOOR}); var sum${i} = 0.0;`)}
  ${declareAccumulators(tile, 'o', sumQuads)}

  ${overColumnTiles(
    variant,
    tile,
    'rowStart',
    'keyStart',
    ['firstKey', 'endKey'],
    `
    ${declareAccumulators(tile, 's', scoreQuads)}
    ${multiplyTransposed(tile, 's', q, 'rowStart', k, 'keyStart')}

    ${scoresOfTile(variant, tile, 'rowStart', queryOf)}

    ${eachRow((i) => {
      const own = range(scoreQuads).map((n) => `largest(s${i}_${n})`);
      return `var newMaximum${i} = ${own.reduce((a, b) => `max(${a}, ${b})`, `maximum${i}`)};`;
    })}
    ${overRows(tile, 'newMaximum', (a, b) => `max(${a}, ${b})`)}
    ${weightsOfTile(variant, tile, sumQuads, queryOf)}
    ${addWeighted(tile, 'o', 's', v, 'keyStart')}`,
  )}

  ${overRows(tile, 'sum', (a, b) => `${a} + ${b}`)}
  ${storeRowsOfOutput(variant, tile, sumQuads, queryOf)}`,
)}`;

  return attentionShader([...forwardInputs(variant), ...liveTilesBinding(variant), ...forwardOutputs(variant)], body);
}
