/** How the attention kernels that multiply in float16 (half_matrices_wgsl.ts) cut up the score matrix. */
import type {AttentionVariant} from './attention_wgsl.js';
import {type RowKernel, type TiledWork, workgroupsOf} from './tiled_work.js';

/** How one workgroup cuts up the score matrix: each of its subgroups has 16 rows. */
export interface HalfTile {
  subgroups: number;
  threads: number;
  /** Queries, or keys in the kernel that makes dK and dV. */
  rows: number;
  /** Keys, or queries in the kernel that makes dK and dV: one matrix of them. */
  columns: number;
}

/** Rows, columns and inner elements of a subgroup matrix. */
export const MATRIX_SIZE = 16;
/** Lanes of a subgroup: the kernels spread a matrix of scores over so many. */
export const SUBGROUP_LANES = 32;

/** What a tile is made from: the one place to tune. */
interface Shape {
  /** More share the columns that they load, and take more workgroup memory; for heads of up to 64 elements, and of more. */
  mostSubgroups: number;
  mostSubgroupsOfDeepHeads: number;
  /** Fewer leave parts of a large GPU without work: then workgroups are smaller. */
  enoughWorkgroups: number;
}

export const halfShapes: Record<RowKernel, Shape> = {
  forward: {mostSubgroups: 16, mostSubgroupsOfDeepHeads: 16, enoughWorkgroups: 256},
  queryGradient: {mostSubgroups: 4, mostSubgroupsOfDeepHeads: 8, enoughWorkgroups: 256},
  keyValueGradient: {mostSubgroups: 8, mostSubgroupsOfDeepHeads: 8, enoughWorkgroups: 256},
};

const DEEP = 64;
/** Both operands of the rows, and the sums, must stay in registers. */
const MOST_DEPTH = 128;

/** Smaller workgroups would load the same columns too often, however few there are. */
const FEWEST_SUBGROUPS = 4;

/** The tile of a kernel; undefined where the head dimension is not for it, or the device has no room. */
export function chooseHalfTile(
  {limits}: GPUDevice,
  kernel: RowKernel,
  work: TiledWork,
  bytesOf: (variant: AttentionVariant, tile: HalfTile) => number,
): HalfTile | undefined {
  const {variant, block} = work;
  const depth = Math.max(variant.depth, variant.valueDepth);
  if (depth > MOST_DEPTH) return undefined;
  const {mostSubgroups, mostSubgroupsOfDeepHeads, enoughWorkgroups} = halfShapes[kernel];
  const tileOf = (subgroups: number): HalfTile => ({
    subgroups,
    threads: subgroups * SUBGROUP_LANES,
    rows: subgroups * MATRIX_SIZE,
    columns: MATRIX_SIZE,
  });
  const areFew = (tile: HalfTile) => workgroupsOf(work, tile.rows) < enoughWorkgroups;
  const isTooLarge = (tile: HalfTile) =>
    (block && tile.rows > block.rows) || (tile.subgroups > FEWEST_SUBGROUPS && areFew(tile));
  const hasRoom = (tile: HalfTile) =>
    bytesOf(variant, tile) <= limits.maxComputeWorkgroupStorageSize &&
    tile.threads <= Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX);
  let tile = tileOf(depth > DEEP ? mostSubgroupsOfDeepHeads : mostSubgroups);
  while (tile.subgroups > 1 && (isTooLarge(tile) || !hasRoom(tile))) tile = tileOf(tile.subgroups / 2);
  return hasRoom(tile) ? tile : undefined;
}
