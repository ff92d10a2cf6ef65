/**
 * WGSL of the kernels for dQ and for dK and dV for devices with wide SIMD groups: what query_gradient_wgsl.ts and
 * key_value_gradient_wgsl.ts do, with all products as sums of outer products (outer_attention_wgsl.ts). A tile's rows are
 * queries in the first and keys in the second.
 */
import {
  type AttentionVariant,
  attentionShader,
  loadInsideFunction,
  type Operand,
  operandBinding,
  operandDepth,
  storeAccumulator,
  storeFunction,
} from './attention_wgsl.js';
import type {KeyValueOutputs} from './key_value_gradient_wgsl.js';
import {overColumnTiles} from './live_tiles_wgsl.js';
import {partialBinding, storePart, turnsFunction} from './long_rows_wgsl.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {
  addWeighted,
  declareTileMemory,
  type HeadOperand,
  headOperand,
  multiplyTransposed,
  quadsOfSum,
  tileMemoryBytes,
} from './outer_attention_wgsl.js';
import {enterOuterTile, outerRow} from './outer_products_wgsl.js';
import {
  declareRowStats,
  type GradientOf,
  gradientFunctions,
  gradientInputs,
  gradientOfTile,
  type RowsAre,
} from './score_gradient_wgsl.js';
import {type Binding, entryPoint, type Shader} from './shader.js';
import type {StoredTiles} from './stored_gradient.js';
import {enterStored, storedBinding, storedFunctions, storeTile} from './stored_gradient_wgsl.js';
import {threadGrid} from './tile_sizes.js';
import {declareAccumulators} from './tile_wgsl.js';
import {enterKeyRows, enterMember, enterQueryRows} from './turns_wgsl.js';

/** Bytes of workgroup memory that either kernel takes with this tile. */
export function outerGradientBytes({depth, valueDepth}: AttentionVariant, tile: OuterTile): number {
  return tileMemoryBytes(tile, [depth, valueDepth]);
}

/** What a kernel for gradients is made of, beside its loops. */
function gradientParts(variant: AttentionVariant, tile: OuterTile, read: Operand[], written: ('dq' | 'dk' | 'dv')[]) {
  const limitOf = (operand: Operand) => (operand === 'k' || operand === 'v' ? 'keyLimit' : 'queryLimit');
  const operand = (name: Operand): HeadOperand =>
    headOperand(variant, name, operandDepth(variant, name), limitOf(name));
  const rowOf = (i: number) => `rowStart + ${outerRow(tile, i)}`;
  const widthOf = (name: Operand) => quadsOfSum(tile, operandDepth(variant, name));
  const declareScores = (name: string) => declareAccumulators(tile, name, tile.threadColumns / 4);
  return {
    threads: threadGrid(tile).threads,
    operand,
    rowOf,
    declarations: `
${declareTileMemory(
  tile,
  written.map((name) => operandDepth(variant, name)),
)}
${gradientFunctions(variant, read)}
${read.map((name) => loadInsideFunction(variant, name)).join('')}
${written.map((name) => storeFunction(variant, name)).join('')}`,
    declareSums: written.map((name) => declareAccumulators(tile, name, widthOf(name))).join('\n'),
    /** Leaves P in s… (after dropout) and, if wanted, dS in d…. */
    gradientOfScores: (
      rowsAre: RowsAre,
      gradientOf: GradientOf,
      [scoreRows, scoreColumns]: [Operand, Operand],
      [valueRows, valueColumns]: [Operand, Operand],
    ) => `
    ${declareScores('s')}
    ${multiplyTransposed(tile, 's', operand(scoreRows), 'rowStart', operand(scoreColumns), 'columnStart')}
    ${
      gradientOf === 'nothing'
        ? ''
        : `${declareScores('d')}
    ${multiplyTransposed(tile, 'd', operand(valueRows), 'rowStart', operand(valueColumns), 'columnStart')}`
    }
    ${gradientOfTile(variant, tile, rowsAre, gradientOf, rowOf)}`,
    store: (name: 'dq' | 'dk' | 'dv', base: string, limit: string, factor: string) =>
      storeAccumulator(
        variant,
        name,
        tile,
        widthOf(name),
        {base, limit, row: rowOf},
        (i, n) => `${factor}${name}${i}_${n}`,
      ),
    shader: (body: string, more: Binding[] = []) => {
      const outputs = written.map((name) => operandBinding(variant, name, 'read_write'));
      return attentionShader([...gradientInputs(variant, read), ...outputs, ...more], body);
    },
  };
}

export function outerQueryGradientShader(variant: AttentionVariant, tile: OuterTile): Shader {
  const parts = gradientParts(variant, tile, ['q', 'k', 'v', 'dOutput'], ['dq']);
  return parts.shader(`
${parts.declarations}
${entryPoint(
  parts.threads,
  `
  ${enterQueryRows(variant, tile, ['q', 'dOutput'])}
  let endKey = u32(max(seen.y, 0));
  ${enterOuterTile(tile)}
  ${declareRowStats(tile, parts.rowOf)}
  ${parts.declareSums}

  ${overColumnTiles(
    variant,
    tile,
    'rowStart',
    'columnStart',
    ['u32(seen.x)', 'endKey'],
    `
    ${parts.gradientOfScores('queries', 'dots', ['q', 'k'], ['dOutput', 'v'])}
    ${addWeighted(tile, 'dq', 'd', parts.operand('k'), 'columnStart')}`,
  )}

  ${parts.store('dq', 'qBase', 'params.queries', 'params.scale * ')}`,
)}`);
}

/**
 * What the kernel for dK and dV does beside that, where both are wanted: it takes parts of rows that are cut (long_rows.ts), or
 * stores dS of a group of matrices, in the shape that is given (stored_gradient.ts).
 */
export type KeyValueKind = 'plain' | 'cut' | {stores: StoredTiles['shape']};

export function outerKeyValueGradientShader(
  variant: AttentionVariant,
  tile: OuterTile,
  outputs: KeyValueOutputs,
  kind: KeyValueKind = 'plain',
): Shader {
  const isCut = kind === 'cut';
  const stored = typeof kind === 'string' ? undefined : kind.stores;
  const written = (['dk', 'dv'] as const).filter((name) => outputs[name]);
  const read: Operand[] = outputs.dk ? ['q', 'k', 'v', 'dOutput'] : ['q', 'k', 'dOutput'];
  const parts = gradientParts(variant, tile, read, written);
  const store = `
  ${outputs.dk ? parts.store('dk', 'kBase', 'params.keys', 'params.scale * ') : ''}
  ${outputs.dv ? parts.store('dv', 'vBase', 'params.keys', '') : ''}`;
  return parts.shader(
    `
${parts.declarations}
${isCut ? turnsFunction : ''}
${stored ? storedFunctions(tile, stored) : ''}
${entryPoint(
  parts.threads,
  `
  ${enterKeyRows(variant, tile, isCut ? 'inParts' : stored ? 'ofGroup' : 'all')}
  ${enterOuterTile(tile)}
  ${parts.declareSums}

  for (var member = 0u; member < groupSize; member++) {
    ${enterMember(variant, tile)}
    let endQuery = u32(max(seen.y, 0));
    ${stored ? enterStored(tile, 'placeInGroup * groupSize + member') : ''}
    ${overColumnTiles(
      variant,
      tile,
      'rowStart',
      'columnStart',
      ['u32(seen.x)', 'endQuery'],
      `
      ${parts.gradientOfScores('keys', outputs.dk ? 'dots' : 'nothing', ['k', 'q'], ['v', 'dOutput'])}
      ${stored ? storeTile(tile) : ''}
      ${outputs.dv ? addWeighted(tile, 'dv', 's', parts.operand('dOutput'), 'columnStart') : ''}
      ${outputs.dk ? addWeighted(tile, 'dk', 'd', parts.operand('q'), 'columnStart') : ''}`,
      isCut,
    )}
  }

  ${isCut ? `if (parts == 1u) {\n${store}\n} else {\n${storePart(variant, tile)}\n}` : store}`,
)}`,
    [...(isCut ? [partialBinding('read_write')] : []), ...(stored ? [storedBinding('read_write')] : [])],
  );
}
