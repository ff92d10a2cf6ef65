/** How many elements and rows a workgroup and an invocation of a butterfly sweep take, by the limits of the device. */
import type {ButterflySizes} from '../butterfly_sizes.js';
import type {ButterflyPass} from './butterfly_passes.js';

/** What {@link butterflyTile} is chosen by. */
export type ButterflyLimits = Pick<
  GPUSupportedLimits,
  'maxComputeWorkgroupStorageSize' | 'maxComputeInvocationsPerWorkgroup' | 'maxComputeWorkgroupSizeX'
>;

export interface ButterflyTile {
  /** Invocations of a workgroup. */
  threads: number;
  /** log2 of the elements of a row that an invocation holds. */
  elementBits: number;
  /** Rows of which an invocation holds these elements, and how many of them make a vector. */
  rows: number;
  vectorRows: number;
}

/** What was tried on an H200 stands in bench/README.md, Log. */
export const butterflyShape = {
  /** log2 of the elements of a row that an invocation holds. */
  elementBits: 3,
  /** Numbers that an invocation holds of each element: rows, or half as many complex ones. */
  mostNumbers: 8,
  /** The same where it stores each factor's inputs, which takes most of the time. */
  mostSavedNumbers: 2,
  /** Numbers that a workgroup holds; more would not leave its invocations enough registers. */
  mostNumbersOfWorkgroup: 2 ** 15,
  /** A workgroup of fewer invocations leaves a core idle; it takes more rows instead. */
  leastThreads: 128,
  /** So many workgroups keep a GPU busy; only then do invocations take several rows. */
  enoughWorkgroups: 128,
};

const FLOAT_BYTES = 4;

/** Tiles of rows that no workgroup holds: log2 of their elements. */
const PART_BITS = 12;

const mostThreads = ({maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX}: ButterflyLimits) =>
  2 ** Math.floor(Math.log2(Math.min(maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX)));

/**
 * log2 of the elements that a workgroup holds of a row: all of them where it has the memory and the invocations, so that one
 * pass takes it through all factors, else as many as let several workgroups share a core.
 */
export function butterflyTileBits({factors}: Pick<ButterflySizes, 'factors'>, limits: ButterflyLimits): number {
  const ofMemory = Math.floor(Math.log2(limits.maxComputeWorkgroupStorageSize / FLOAT_BYTES));
  const most = Math.min(ofMemory, Math.log2(mostThreads(limits)) + butterflyShape.elementBits);
  return factors <= most ? factors : Math.min(PART_BITS, most);
}

/** The tile of one pass of so many rows; `saves` where each factor's inputs are stored. */
export function butterflyTile(
  sizes: ButterflySizes,
  rows: number,
  {spanBits, laneBits}: Pick<ButterflyPass, 'spanBits' | 'laneBits'>,
  saves: boolean,
  limits: ButterflyLimits,
): ButterflyTile {
  const {leastThreads, enoughWorkgroups} = butterflyShape;
  const rowBits = spanBits + laneBits;
  const elementBits = Math.min(butterflyShape.elementBits, rowBits);
  const across = 2 ** (rowBits - elementBits);
  const most = Math.min(mostThreads(limits), across * 2 ** Math.ceil(Math.log2(rows)));
  const threads = Math.max(across, Math.min(leastThreads, most));
  const oneRowEach = ((rows * across) / threads) * sizes.stacks * (sizes.n / 2 ** rowBits);
  const wanted = 2 ** Math.floor(Math.log2(Math.max(1, oneRowEach / enoughWorkgroups)));
  const rowsHeld = Math.min(wanted, mostRows(sizes, saves, threads * 2 ** elementBits));
  const hasRoomForPairs = 2 * FLOAT_BYTES * threads * 2 ** elementBits <= limits.maxComputeWorkgroupStorageSize;
  return {
    threads,
    elementBits,
    rows: rowsHeld,
    vectorRows: hasRoomForPairs && !sizes.complex ? Math.min(2, rowsHeld) : 1,
  };
}

function mostRows({complex}: Pick<ButterflySizes, 'complex'>, saves: boolean, elements: number): number {
  const {mostNumbers, mostSavedNumbers, mostNumbersOfWorkgroup} = butterflyShape;
  const numbers = Math.min(saves ? mostSavedNumbers : mostNumbers, mostNumbersOfWorkgroup / elements);
  return Math.max(1, numbers / (complex ? 2 : 1));
}

export function butterflyWorkgroups(
  {stacks, n}: ButterflySizes,
  rows: number,
  {spanBits, laneBits}: Pick<ButterflyPass, 'spanBits' | 'laneBits'>,
  tile: ButterflyTile,
): number {
  const rowsOfWorkgroup = (tile.threads * 2 ** tile.elementBits * tile.rows) / 2 ** (spanBits + laneBits);
  return (Math.ceil(rows / rowsOfWorkgroup) * stacks * n) / 2 ** (spanBits + laneBits);
}
