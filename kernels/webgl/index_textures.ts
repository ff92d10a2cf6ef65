/** Textures of a layout's indices, which the layout keeps (`BlockLayout.indexBuffer`), and how programs read them. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {blockWalk} from '../block_sparse_sizes.js';
import {placeTable} from '../layout_tables.js';
import type {Textures} from './packed_program.js';

/** Index textures hold each number in two digits to this base: half floats hold no larger integers one by one. */
const INDEX_BASE = 2048;

/** GLSL that reads them. */
export const indexAccess = `
// The two numbers that a texel of an index texture holds.
ivec2 indices(vec4 digits) {
  return ivec2(digits.xz) * ${INDEX_BASE} + ivec2(digits.yw);
}`;

/** Of each live block: its row of blocks, counted over all heads, and its column. */
export function places(backend: MathBackendWebGL, layout: BlockLayout): TensorInfo {
  return indexTexture(backend, layout, 'places', () => {
    const table = placeTable(layout);
    return Array.from({length: layout.nnz}, (_, block) => {
      const [row, column, head] = table.subarray(3 * block, 3 * block + 3);
      return [head * layout.rowBlocks + row, column];
    });
  });
}

/** What a product reads to find the live blocks of a row of the sparse matrix, or of its transpose. */
export function walkIndices(backend: MathBackendWebGL, layout: BlockLayout, transposed: boolean): Textures {
  const axis = transposed ? 'column' : 'row';
  return {
    offsets: indexTexture(backend, layout, `offsets by ${axis}`, () => blockRanges(layout, transposed)),
    blocks: indexTexture(backend, layout, `blocks by ${axis}`, () => blockEntries(layout, transposed)),
  };
}

/** Of each row of blocks of the sparse matrix, or of its transpose: which of `blockEntries` are its own, from and to. */
export function blockRanges(layout: BlockLayout, transposed: boolean): number[][] {
  const {offsets} = blockWalk(layout, transposed);
  return Array.from(offsets.subarray(1), (end, list) => [offsets[list], end]);
}

/** The live blocks, row by row of the sparse matrix, or of its transpose: the block, and the inner block that it meets. */
export function blockEntries(layout: BlockLayout, transposed: boolean): number[][] {
  const {blocks, innerIndices} = blockWalk(layout, transposed);
  return Array.from(blocks, (block) => [block, innerIndices[block]]);
}

/** A texture of this name whose texels hold two numbers each. The first program that reads it has it uploaded as packed. */
export function indexTexture(
  backend: MathBackendWebGL,
  layout: BlockLayout,
  name: string,
  makeTexels: () => number[][],
): TensorInfo {
  return layout.indexBuffer(backend, name, () => {
    const digits = makeTexels()
      .flat()
      .flatMap((number) => [Math.floor(number / INDEX_BASE), number % INDEX_BASE]);
    // Two rows of two columns, one below the other, are a quad each.
    return {shape: [digits.length / 2, 2], values: Int32Array.from(digits)};
  });
}
