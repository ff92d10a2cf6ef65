/**
 * dS, the gradient of the scores, passed on: the kernel that makes dK and dV stores it, and dQ is then a product of it and the
 * keys (stored_gradient_wgsl.ts), where it would otherwise make scores and their gradient anew: five products in place of
 * seven. Memory stays linear, because no more matrices do so at once than fit into a buffer no larger than the call's inputs.
 */
import type {FlashAttentionAttrs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import type {OuterTile} from './outer_attention_tiles.js';
import {threadGrid} from './tile_sizes.js';

/** Score matrices [first, first + count), of keys' heads or of queries'. */
export interface MatrixGroup {
  first: number;
  count: number;
}

/**
 * Bytes of dS at once, and how many invocations a group must have: with fewer, parts of a large GPU have no work; under a window
 * those are many whose work is uneven. `inputShare` is what the buffer may take of the size of the inputs. Replaced by tests.
 */
export const storedGradientLimits = {
  bytes: 2 ** 28,
  inputShare: 1,
  invocations: 3 * 2 ** 13,
  windowedInvocations: 2 ** 16,
};

/** Deeper heads' sums do not fit into registers. */
const MOST_DEPTH = 128;

/** What a group's buffer has for each matrix of keys: rows of whole tiles, once for each query head that shares them. */
export function storedShape(tile: OuterTile, {heads, keyHeads, queries, keys}: AttentionSizes): number[] {
  const whole = (size: number, ofTile: number) => Math.ceil(size / ofTile) * ofTile;
  return [heads / keyHeads, whole(keys, tile.rows), whole(queries, tile.columns)];
}

/** The groups of matrices of keys, of about the same size; undefined where dS is better made twice. */
export function storedGroups(
  {limits}: GPUDevice,
  tile: OuterTile,
  {layout, left, right}: FlashAttentionAttrs,
  sizes: AttentionSizes,
): MatrixGroup[] | undefined {
  const {batch, heads, keyHeads, queries, keys, depth, valueDepth} = sizes;
  if (layout || depth > MOST_DEPTH) return undefined;
  const bytesOf = (shape: number[]) => 4 * shape.reduce((product, size) => product * size, 1);
  // q, output, dOutput, k and v.
  const inputs = batch * (heads * queries * (depth + 2 * valueDepth) + keyHeads * keys * (depth + valueDepth));
  const {bytes, inputShare, invocations, windowedInvocations} = storedGradientLimits;
  const most = Math.min(
    bytes,
    inputShare * bytesOf([inputs]),
    limits.maxStorageBufferBindingSize,
    limits.maxBufferSize,
  );
  const matrices = batch * keyHeads;
  const atOnce = Math.floor(most / bytesOf(storedShape(tile, sizes)));
  if (atOnce === 0) return undefined;
  const groups = Math.ceil(matrices / atOnce);
  const count = Math.ceil(matrices / groups);
  const least = left < 0 && right < 0 ? invocations : windowedInvocations;
  if (groups > 1 && count * Math.ceil(keys / tile.rows) * threadGrid(tile).threads < least) return undefined;
  return Array.from({length: Math.ceil(matrices / count)}, (_, group) => ({
    first: group * count,
    count: Math.min(count, matrices - group * count),
  }));
}
