/**
 * Index textures: packed textures of integers that lead programs to the live blocks of a layout, which keeps them on the
 * backend. Each texel holds two numbers.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {BlockLayout} from '../../src/sparsity/block_layout.js';
import {blockWalk} from '../block_sparse_sizes.js';

/** Each number is in two digits to this base: half floats hold no larger integers one by one. */
const INDEX_BASE = 2048;

/** GLSL `indices(texel)`. */
export const indexAccess = `
// The two numbers that a texel of an index texture holds.
ivec2 indices(vec4 digits) {
  return ivec2(digits.xz) * ${INDEX_BASE} + ivec2(digits.yw);
}`;

/** The index texture of this name. The first program that reads it has it uploaded as packed. */
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
