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
import {storeRowsOfOutput} from './forward_wgsl.js';
import {hideDeadIn, layoutFunctions, liveTilesBinding, overColumnTiles} from './live_tiles_wgsl.js';
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
  const {threads, threadsAcross} = threadGrid(tile);
  const q = headOperand(variant, 'q', depth, 'queryLimit');
  const k = headOperand(variant, 'k', depth, 'keyLimit');
  const v = headOperand(variant, 'v', valueDepth, 'keyLimit');
  const scoreQuads = tile.threadColumns / 4;
  const sumQuads = quadsOfSum(tile, valueDepth);
  const eachRow = (line: (i: number) => string) => lines(tile.threadRows, line);
  const eachScore = (line: (i: number, n: number) => string) => eachRow((i) => lines(scoreQuads, (n) => line(i, n)));
  const keyQuad = (n: number) => `(keyStart / 4u + ${n * threadsAcross}u + threadColumn)`;
  const keysOf = (n: number) => `4 * i32${keyQuad(n)} + vec4i(0, 1, 2, 3)`;
  const queryOf = (i: number) => `rowStart + ${outerRow(tile, i)}`;
  const hide = (name: string) =>
    eachScore((i, n) => `s${i}_${n} = ${name}(head, s${i}_${n}, vec4i(i32(${queryOf(i)})), ${keysOf(n)});`);

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

    ${eachScore((i, n) => `s${i}_${n} = scoresOf(head, s${i}_${n}, vec4i(i32(${queryOf(i)})), ${keysOf(n)});`)}
    if (hasHidden(head, i32(rowStart), i32(rowStart) + ${tile.rows}, i32(keyStart), i32(keyStart) + ${tile.columns})) {
      ${hide('hideInvisible')}
    }
    ${hideDeadIn(variant, tile, hide('hideDead'))}

    ${eachRow((i) => {
      const own = range(scoreQuads).map((n) => `largest(s${i}_${n})`);
      return `var newMaximum${i} = ${own.reduce((a, b) => `max(${a}, ${b})`, `maximum${i}`)};`;
    })}
    ${overRows(tile, 'newMaximum', (a, b) => `max(${a}, ${b})`)}
    ${eachRow(
      (i) => `
    let rescale${i} = exp2(maximum${i} - newMaximum${i});
    maximum${i} = newMaximum${i};
    sum${i} *= rescale${i};
    ${lines(sumQuads, (n) => `o${i}_${n} *= rescale${i};`)}`,
    )}
    ${eachScore(
      (i, n) => `s${i}_${n} = exp2(s${i}_${n} - maximum${i});
    sum${i} += dot(s${i}_${n}, vec4f(1.0));
    ${variant.dropout ? `s${i}_${n} *= keepOf(head, ${queryOf(i)}, ${keyQuad(n)});` : ''}`,
    )}
    ${addWeighted(tile, 'o', 's', v, 'keyStart')}`,
  )}

  ${overRows(tile, 'sum', (a, b) => `${a} + ${b}`)}
  ${storeRowsOfOutput(variant, tile, sumQuads, queryOf)}`,
)}`;

  return attentionShader([...forwardInputs(variant), ...liveTilesBinding(variant), ...forwardOutputs(variant)], body);
}
