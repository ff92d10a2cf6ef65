/** Which devices take the attention kernels of outer products (outer_attention_wgsl.ts), and how these cut up the score matrix. */
import {type ProductTile, productTile, threadGrid} from './tile_sizes.js';
import {type RowKernel, type TiledWork, workgroupsOf} from './tiled_work.js';

/** How one workgroup cuts up the score matrix: rows are queries, or keys in the kernel that makes dK and dV. */
export interface OuterTile extends ProductTile {
  /** Columns of a chunk of the weighted sums. As many come from each invocation: innerColumns · threadColumns / columns. */
  innerColumns: number;
  /** Whether the loop over chunks loads one more than there are, rather than ask each time: some tiles are faster so. */
  loadsPastEnd: boolean;
}

/** A tile, and what it is for. Smaller ones are faster for less. */
export interface OuterTileChoice {
  tile: OuterTile;
  /** With fewer, parts of a large GPU have no work. */
  leastWorkgroups: number;
  /** Where rows see fewer columns, too much of the tiles at the edge of what they see is hidden. */
  leastSeen: number;
}

/** The tiles of heads of up to so many elements, largest first. */
interface TilesOfDepth {
  mostDepth: number;
  choices: OuterTileChoice[];
}

/** Rows that an invocation holds, of scores and of sums. */
const THREAD_ROWS = 8;
/** Elements of the head in a chunk of the scores. */
const INNER = 16;

interface Options {
  leastWorkgroups?: number;
  leastSeen?: number;
  innerColumns?: number;
  loadsPastEnd?: boolean;
}

export const outerTileChoice = (
  rows: number,
  columns: number,
  threadColumns: number,
  {leastWorkgroups = 0, leastSeen = 0, innerColumns = 16, loadsPastEnd = false}: Options = {},
): OuterTileChoice => ({
  tile: {...productTile('packed', [rows, columns], [THREAD_ROWS, threadColumns], INNER), innerColumns, loadsPastEnd},
  leastWorkgroups,
  leastSeen,
});

const withinSmallBlocks = outerTileChoice(32, 32, 4);
const gradientsOfShallowHeads: TilesOfDepth = {
  mostDepth: 32,
  choices: [
    outerTileChoice(128, 64, 8, {leastWorkgroups: 256, leastSeen: 384, loadsPastEnd: true}),
    outerTileChoice(64, 64, 8, {leastWorkgroups: 512, loadsPastEnd: true}),
    outerTileChoice(64, 64, 4),
    withinSmallBlocks,
  ],
};
const deepHeads: TilesOfDepth = {
  mostDepth: 256,
  choices: [outerTileChoice(64, 128, 4, {innerColumns: 32, loadsPastEnd: true})],
};

/**
 * The one place to tune. What an invocation holds takes most of its registers: 64 scores or 32 of each kind, and 64 sums or 32
 * of each kind.
 */
export const outerTileTable: Record<RowKernel, TilesOfDepth[]> = {
  forward: [
    {
      mostDepth: 64,
      choices: [
        outerTileChoice(128, 64, 8, {leastWorkgroups: 256, leastSeen: 384, loadsPastEnd: true}),
        outerTileChoice(64, 64, 8, {leastWorkgroups: 512}),
        outerTileChoice(64, 64, 4),
        withinSmallBlocks,
      ],
    },
    {
      mostDepth: 128,
      choices: [outerTileChoice(64, 128, 8, {loadsPastEnd: true}), outerTileChoice(64, 64, 4), withinSmallBlocks],
    },
    deepHeads,
  ],
  queryGradient: [
    gradientsOfShallowHeads,
    {
      mostDepth: 64,
      choices: [
        outerTileChoice(128, 128, 8, {leastWorkgroups: 96, leastSeen: 384, innerColumns: 32}),
        outerTileChoice(64, 64, 4),
        withinSmallBlocks,
      ],
    },
    {
      mostDepth: 128,
      choices: [
        outerTileChoice(128, 128, 8, {leastWorkgroups: 96, leastSeen: 384, loadsPastEnd: true}),
        outerTileChoice(64, 64, 4),
        withinSmallBlocks,
      ],
    },
    deepHeads,
  ],
  keyValueGradient: [
    gradientsOfShallowHeads,
    {
      mostDepth: 64,
      choices: [
        outerTileChoice(128, 128, 8, {leastWorkgroups: 96, leastSeen: 384, innerColumns: 32}),
        outerTileChoice(64, 64, 4, {loadsPastEnd: true}),
        withinSmallBlocks,
      ],
    },
    {mostDepth: 128, choices: [outerTileChoice(64, 64, 4), withinSmallBlocks]},
    deepHeads,
  ],
};

/**
 * Devices must have SIMD groups of at least so many lanes. Narrower ones have fewer registers for each lane than these kernels
 * take.
 */
export const smallestSubgroup = {size: 32};

/**
 * The largest tile of a kernel that makes enough workgroups and lies within blocks, or the smallest; undefined where the
 * device, or the head dimension, is not for it. `bytesOf` says what workgroup memory the kernel takes with a tile.
 */
export function chooseOuterTile(
  {adapterInfo, limits}: GPUDevice,
  kernel: RowKernel,
  work: TiledWork,
  bytesOf: (tile: OuterTile) => number,
): OuterTile | undefined {
  const subgroup: number = adapterInfo?.subgroupMinSize ?? 0;
  if (subgroup < smallestSubgroup.size) return undefined;
  const {variant, block, seen} = work;
  const depth = Math.max(variant.depth, variant.valueDepth);
  const hasRoom = ({tile}: OuterTileChoice) =>
    bytesOf(tile) <= limits.maxComputeWorkgroupStorageSize &&
    threadGrid(tile).threads <= Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX);
  const choices = outerTileTable[kernel].find(({mostDepth}) => depth <= mostDepth)?.choices.filter(hasRoom) ?? [];
  const suits = ({tile, leastWorkgroups, leastSeen}: OuterTileChoice) =>
    (seen === undefined || seen >= leastSeen) &&
    (!block || (tile.rows <= block.rows && tile.columns <= block.columns)) &&
    workgroupsOf(work, tile.rows) >= leastWorkgroups;
  return (choices.find(suits) ?? choices.at(-1))?.tile;
}
