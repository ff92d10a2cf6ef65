/** Which devices take the attention kernels of lane_groups_wgsl.ts, and how these cut up the score matrix there. */
import type {FlashAttentionAttrs} from '../../src/kernel_names.js';
import type {AttentionSizes} from '../attention_sizes.js';
import type {AttentionVariant} from './attention_wgsl.js';
import type {TiledKernel} from './tile_sizes.js';

/** How one workgroup cuts up the score matrix. */
export interface GroupTile {
  /** G: lanes that share four rows; 4, 8, 16 or 32. */
  lanes: number;
  /** Invocations of a workgroup. */
  threads: number;
  /** Rows of a workgroup, 4·threads / lanes: queries, or keys in the kernel that makes dK and dV. */
  rows: number;
  /** Columns in workgroup memory at once: keys, or queries in the kernel that makes dK and dV. */
  columns: number;
  /** Columns of one step of the loop over them, at least those that a group takes at once. */
  unrolled: number;
}

export type GroupedKernel = Exclude<TiledKernel, 'biasGradient'>;

/** What a kernel's tile is made from: the one place to tune. */
interface Shape {
  /** At the most, where groups have four lanes and where they have more. */
  threads: number;
  threadsOfLargeGroups: number;
  /** Of each operand: more take too many registers, fewer too many shuffles. */
  mostQuadsPerLane: number;
  /** Columns of one step, where groups have four lanes and where they have more. */
  unrolled: number;
  unrolledOfLargeGroups: number;
  /** Fewer leave parts of a large GPU without work: then more lanes share rows, and workgroups are smaller. */
  enoughWorkgroups: number;
}

export const groupShapes: Record<GroupedKernel, Shape> = {
  forward: {
    threads: 128,
    threadsOfLargeGroups: 256,
    mostQuadsPerLane: 4,
    unrolled: 16,
    unrolledOfLargeGroups: 16,
    enoughWorkgroups: 512,
  },
  queryGradient: {
    threads: 128,
    threadsOfLargeGroups: 128,
    mostQuadsPerLane: 4,
    unrolled: 2,
    unrolledOfLargeGroups: 16,
    enoughWorkgroups: 512,
  },
  keyValueGradient: {
    threads: 128,
    threadsOfLargeGroups: 128,
    mostQuadsPerLane: 2,
    unrolled: 8,
    unrolledOfLargeGroups: 8,
    enoughWorkgroups: 256,
  },
};

/**
 * Workgroup memory for each invocation: with more, too few workgroups share a processor. On an H200 a workgroup of 64 with
 * twice as much is slower by a quarter, and one of 32 with four times as much by four fifths.
 */
const MOST_BYTES_PER_THREAD = 136;

/**
 * Devices must have subgroups of at least so many lanes. Narrower SIMD groups have fewer registers for each lane than
 * these kernels take.
 */
export const smallestSubgroup = {size: 32};

/** What a kernel goes over. */
export interface GroupedWork {
  variant: AttentionVariant;
  /** Rows of each score matrix, and how many matrices there are. */
  rows: number;
  matrices: number;
  /** Rows of a layout's blocks. */
  blockRows?: number;
}

export function groupedWork(
  variant: AttentionVariant,
  {layout}: FlashAttentionAttrs,
  {batch, heads, keyHeads, queries, keys}: AttentionSizes,
  rowsAre: 'queries' | 'keys',
): GroupedWork {
  return rowsAre === 'queries'
    ? {variant, rows: queries, matrices: batch * heads, blockRows: layout?.blockSize[0]}
    : {variant, rows: keys, matrices: batch * keyHeads, blockRows: layout?.blockSize[1]};
}

/** Of tiles with so many rows. */
export function workgroupsOf({rows, matrices}: GroupedWork, tileRows: number): number {
  return Math.ceil(rows / tileRows) * matrices;
}

/** Groups of more lanes spend more time on shuffles than on products. */
const MOST_LANES_FOR_MORE_WORKGROUPS = 8;
/** In workgroup memory at once: as many as there is room for. */
const COLUMNS = [32, 16, 8];
/** A subgroup. */
const FEWEST_THREADS = 32;

/**
 * The tile of a kernel; undefined where the device, or the head dimension, is not for it. `bytesOf` says what workgroup
 * memory the kernel takes with a tile.
 */
export function chooseGroupTile(
  {features, adapterInfo, limits}: GPUDevice,
  kernel: GroupedKernel,
  work: GroupedWork,
  bytesOf: (tile: GroupTile) => number,
): GroupTile | undefined {
  const {
    variant: {depth, valueDepth},
    rows,
    blockRows = rows,
  } = work;
  const subgroup: number = adapterInfo?.subgroupMinSize ?? 0;
  if (!features.has('subgroups') || subgroup < smallestSubgroup.size) return undefined;
  const {mostQuadsPerLane, enoughWorkgroups, ...shape} = groupShapes[kernel];
  let lanes = 4;
  while (2 * lanes <= Math.min(subgroup, 32) && lanes * mostQuadsPerLane * 4 < Math.max(depth, valueDepth)) lanes *= 2;
  let {threads} = shape;
  const tileRows = () => (4 * threads) / lanes;
  const areFew = () => workgroupsOf(work, tileRows()) < enoughWorkgroups;
  const isTooLarge = () => tileRows() > blockRows || areFew();
  while (2 * lanes <= Math.min(subgroup, MOST_LANES_FOR_MORE_WORKGROUPS) && areFew()) lanes *= 2;
  if (lanes > 4) threads = shape.threadsOfLargeGroups;
  while (threads > FEWEST_THREADS && isTooLarge()) threads /= 2;
  const tileOf = (columns: number): GroupTile => {
    const unrolled = Math.max(lanes === 4 ? shape.unrolled : shape.unrolledOfLargeGroups, lanes / 4);
    return {lanes, threads, rows: tileRows(), columns, unrolled: Math.min(columns, unrolled)};
  };
  const tiles = COLUMNS.map(tileOf);
  const most = limits.maxComputeWorkgroupStorageSize;
  const wanted = Math.min(MOST_BYTES_PER_THREAD * threads, most);
  const tile = tiles.find((tile) => bytesOf(tile) <= wanted) ?? tiles[tiles.length - 1];
  return bytesOf(tile) <= most ? tile : undefined;
}
