/**
 * Tile sizes of every attention kernel: the one place to tune. A kernel's generator takes a record and nothing else
 * decides its loops; a record is chosen by the device's limits and SIMD width, never by the name of a GPU.
 */
import type {DenseMatMulAttrs} from '../../src/kernel_names.js';
import type {DenseMatMulSizes} from '../dense_mat_mul_kernels.js';

/** How one workgroup cuts up the score matrix. */
export interface TileSizes {
  /** Rows of the tile: queries, or keys in the kernel that makes dK and dV. Multiple of 4·threadRows. */
  rows: number;
  /** Columns of the tile: keys, or queries in the kernel that makes dK and dV. */
  columns: number;
  /** Rows of the register tile of one invocation, a multiple of 4. */
  threadRows: number;
  /** Columns of the register tile of one invocation, a multiple of 4. */
  threadColumns: number;
  /** Floats of workgroup memory for the right operand of a product; longer products run in chunks. */
  columnFloats: number;
  /**
   * How four neighbouring columns lie in workgroup memory, and with it how products step through the inner dimension:
   * 'packed' in one vec4, four steps at a time, for devices that load 16 bytes per invocation; 'planar' in four planes,
   * step by step, for software, which loads each element by itself and compiles a quarter of the code.
   */
  layout: 'packed' | 'planar';
}

/** Invocations along the rows and the columns of a tile. */
export function threadGrid(tile: TileSizes): {threadsDown: number; threadsAcross: number; threads: number} {
  const threadsDown = tile.rows / tile.threadRows;
  const threadsAcross = tile.columns / tile.threadColumns;
  return {threadsDown, threadsAcross, threads: threadsDown * threadsAcross};
}

export type TiledKernel = 'forward' | 'queryGradient' | 'keyValueGradient' | 'biasGradient';

const packed = (rows: number, columns: number, threadRows: number, threadColumns: number, columnFloats: number) =>
  ({rows, columns, threadRows, threadColumns, columnFloats, layout: 'packed'}) as const;

const planar = (rows: number, columns: number, threadRows: number, threadColumns: number, columnFloats: number) =>
  ({rows, columns, threadRows, threadColumns, columnFloats, layout: 'planar'}) as const;

/** Fit the 16 KiB of the default limits at every head dimension up to 256: the end of every list below. */
const smallest = {
  packed: [packed(32, 32, 4, 4, 1152), packed(32, 32, 4, 4, 640), packed(16, 16, 4, 4, 1024)],
  planar: [planar(32, 32, 8, 8, 1024), planar(32, 32, 8, 8, 512), planar(16, 16, 4, 4, 1024)],
};

/**
 * The tiles of each kernel, best first; the first that fits the device and the head dimension is taken. `wide` is for
 * devices whose SIMD groups have 8 or more lanes (GPUs), `narrow` for the others (software on a CPU).
 */
export const tileTable: Record<'wide' | 'narrow', Record<TiledKernel, TileSizes[]>> = {
  wide: {
    forward: [packed(32, 64, 4, 4, 2304), ...smallest.packed],
    queryGradient: [packed(64, 32, 4, 4, 1152), ...smallest.packed],
    keyValueGradient: [packed(32, 64, 4, 4, 1280), ...smallest.packed],
    biasGradient: smallest.packed,
  },
  narrow: {
    forward: [planar(32, 32, 8, 8, 2048), ...smallest.planar],
    queryGradient: [planar(32, 32, 8, 8, 1024), ...smallest.planar],
    keyValueGradient: [planar(32, 32, 8, 8, 1024), ...smallest.planar],
    biasGradient: smallest.planar,
  },
};

/** The tile of a kernel on a device. `bytesOf` says what workgroup memory the kernel takes with a tile. */
export function chooseTile(
  device: GPUDevice,
  kernel: TiledKernel,
  depths: number[],
  bytesOf: (tile: TileSizes) => number,
): TileSizes {
  const {limits} = device;
  const fits = (tile: TileSizes) =>
    bytesOf(tile) <= limits.maxComputeWorkgroupStorageSize &&
    threadGrid(tile).threads <= Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX) &&
    depths.every((depth) => smallestColumnFloats(tile, depth) <= tile.columnFloats);
  const tile = tileTable[simdWidth(device)][kernel].find(fits);
  if (!tile) {
    throw new Error(
      `flashAttention: this WebGPU device has ${limits.maxComputeWorkgroupStorageSize} bytes of workgroup memory, ` +
        `too few for head dimensions ${depths.join(' and ')}.`,
    );
  }
  return tile;
}

/** Column memory takes at least four rows of a weighted sum's right operand, and one padded quad of every column. */
function smallestColumnFloats(tile: TileSizes, depth: number): number {
  const {threadsAcross} = threadGrid(tile);
  const quads = Math.ceil(Math.ceil(depth / 4) / threadsAcross) * threadsAcross;
  return Math.max(4 * 4 * quads, 4 * tile.columns * 2);
}

/** How a workgroup cuts up a block-sparse product: its tile of the output, and how much of the inner dimension it holds. */
export interface ProductTile extends TileSizes {
  inner: number;
  /** Whether outer products are summed, all inner elements unrolled (outer_products_wgsl.ts), or in a loop (tile_wgsl.ts). */
  unrolled: boolean;
}

/** Software would take long to compile so much code, and rows of tiles in small blocks do not come in quads. */
const canUnroll = (layout: TileSizes['layout'], threadRows: number) => layout === 'packed' && threadRows % 4 === 0;

/** Tiles of a product whose output consists of blocks along rows or columns, or along both. */
interface ProductShape {
  /** Of a side that lies within a block. */
  bound: number;
  /** Of a side that no block bounds. */
  free: number;
  threadRows: number;
  threadColumns: number;
  inner: number;
}

const shape = (
  bound: number,
  free: number,
  threadRows: number,
  threadColumns: number,
  inner: number,
): ProductShape => ({
  bound,
  free,
  threadRows,
  threadColumns,
  inner,
});

/** `sparse` where an operand is sparse, `sampled` where the output is; larger bounds first. */
export const productTable: Record<'wide' | 'narrow', Record<'sparse' | 'sampled', ProductShape[]>> = {
  wide: {
    // Small blocks get more of the free side, so that a tile still feeds a workgroup.
    sparse: [shape(64, 128, 8, 8, 16), shape(32, 128, 8, 8, 16), shape(16, 128, 4, 4, 16), shape(8, 128, 4, 4, 16)],
    // Small tiles give their invocations fewer rows, so that a SIMD group has fewer idle lanes.
    sampled: [shape(64, 64, 8, 4, 16), shape(32, 32, 4, 4, 16), shape(16, 16, 2, 4, 16), shape(8, 8, 1, 4, 16)],
  },
  narrow: {
    sparse: [shape(32, 32, 8, 8, 16), shape(16, 32, 8, 8, 16), shape(8, 32, 8, 8, 16)],
    sampled: [shape(32, 32, 8, 8, 16), shape(16, 16, 8, 8, 16), shape(8, 8, 8, 8, 16)],
  },
};

/** The sides of a tile that blocks of this size bound; the other side is free. */
export interface TileBounds {
  rows?: number;
  columns?: number;
}

/** The largest tile that lies within blocks of these sizes, or covers one that is smaller. */
export function chooseProductTile(device: GPUDevice, bounds: TileBounds): ProductTile {
  const width = simdWidth(device);
  const {rows, columns} = bounds;
  const shapes = productTable[width][rows && columns ? 'sampled' : 'sparse'];
  const within = (block: number) => shapes.find(({bound}) => bound <= block) ?? shapes[shapes.length - 1];
  const [ofRows, ofColumns] = [rows, columns].map((block) => (block === undefined ? undefined : within(block)));
  const {threadRows, threadColumns, inner} = (ofRows ?? ofColumns) as ProductShape;
  const sides: [number, number] = [
    ofRows?.bound ?? (ofColumns as ProductShape).free,
    ofColumns?.bound ?? (ofRows as ProductShape).free,
  ];
  return productTile(layoutFor(width), sides, [threadRows, threadColumns], inner);
}

/** The layout of column memory that devices of this SIMD width take. */
export function layoutFor(width: 'wide' | 'narrow'): TileSizes['layout'] {
  return width === 'wide' ? 'packed' : 'planar';
}

/** A tile of a matrix product, with whatever column memory it needs. */
export const productTile = (
  layout: TileSizes['layout'],
  [rows, columns]: [number, number],
  [threadRows, threadColumns]: [number, number],
  inner: number,
): ProductTile => {
  const columnFloats = columnFloatsOf({columns, inner});
  const unrolled = canUnroll(layout, threadRows);
  return {rows, columns, threadRows, threadColumns, inner, columnFloats, layout, unrolled};
};

/**
 * Tiles of a dense product, of which block-diagonal matrices are many, largest first. Still larger ones load less for each
 * multiply-add, but take so many registers, or turn so unevenly what must be transposed, that they are slower.
 */
export const denseProductTable: Record<'wide' | 'narrow', ProductTile[]> = {
  wide: [
    productTile('packed', [64, 64], [8, 8], 16),
    productTile('packed', [32, 64], [4, 4], 16),
    productTile('packed', [32, 32], [4, 4], 32),
  ],
  narrow: [productTile('planar', [32, 32], [8, 8], 16)],
};

/** Fewer workgroups leave parts of a large GPU without work. */
const ENOUGH_WORKGROUPS = 256;

/** How many tiles cover a matrix of so many rows and columns. */
export function denseProductTiles(tile: ProductTile, [rows, columns]: [number, number]): number {
  return Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);
}

/**
 * The largest tile that the device has room for and of which `count` products of these rows and columns still make
 * enough workgroups, each kind of them by itself; the smallest where none does.
 */
export function chooseDenseProductTile(device: GPUDevice, matrices: [number, number][], count: number): ProductTile {
  const tiles = denseProductTable[simdWidth(device)];
  const {maxComputeWorkgroupStorageSize} = device.limits;
  const fits = (tile: ProductTile) =>
    4 * (tile.rows * (tile.inner + 4) + tile.columnFloats) <= maxComputeWorkgroupStorageSize &&
    matrices.every((matrix) => count * denseProductTiles(tile, matrix) >= ENOUGH_WORKGROUPS);
  return tiles.find(fits) ?? tiles[tiles.length - 1];
}

/** How a dense product is made: tile by tile, and where tiles are few, in several parts of the inner dimension. */
export interface MatMulPlan {
  tile: ProductTile;
  parts: number;
  /** Of the inner dimension, in all parts but the last; whole chunks of the tile. */
  innerOfPart: number;
}

/** For products of two dense matrices, where tfjs's matMul would do; what is too little for it is left to tfjs. */
interface MatMulShape {
  /** Larger tiles load less for each multiply-add. Largest first. */
  tiles: ProductTile[];
  leastMultiplyAdds: number;
  /** Fewer leave parts of the device without work. */
  enoughWorkgroups: number;
}

export const matMulTable: Record<'wide' | 'narrow', MatMulShape> = {
  wide: {
    // Twice as many rows as columns: of the left operand, which most products have to turn, all invocations load.
    tiles: [productTile('packed', [128, 64], [8, 8], 16), productTile('packed', [64, 64], [8, 8], 16)],
    leastMultiplyAdds: 2 ** 26,
    enoughWorkgroups: ENOUGH_WORKGROUPS,
  },
  narrow: {tiles: [productTile('planar', [32, 32], [8, 8], 16)], leastMultiplyAdds: 2 ** 16, enoughWorkgroups: 8},
};

/** What a larger tile saves is less than a larger part of it, outside of the product, takes. */
const MOST_WASTED = 0.1;
/** A part must outlast the sum that it makes necessary. */
const LEAST_INNER_OF_PART = 256;

/**
 * Whether all invocations take part in turning what does not lie by inner elements, a and a transposed b, on its way into
 * workgroup memory: each takes four rows by four inner elements at a time.
 */
function turnsEvenly(tile: ProductTile, {transposeA, transposeB}: DenseMatMulAttrs): boolean {
  const turned = [...(transposeA ? [] : [tile.rows]), ...(transposeB ? [tile.columns] : [])];
  return turned.every((length) => (length / 4) * (tile.inner / 4) >= threadGrid(tile).threads);
}

/**
 * How to make a product: with the largest tile of which it makes enough workgroups, in parts where it must. Undefined
 * where it is too small to be worth it, so thin that most of a tile would lie outside of it, or makes too few workgroups.
 */
export function chooseMatMulPlan(
  device: GPUDevice,
  {rows, columns, inner}: DenseMatMulSizes,
  {hasBias, ...attrs}: DenseMatMulAttrs & {hasBias: boolean},
): MatMulPlan | undefined {
  const {tiles, leastMultiplyAdds, enoughWorkgroups} = matMulTable[simdWidth(device)];
  const countOf = (tile: ProductTile) => denseProductTiles(tile, [rows, columns]);
  const usedPart = (tile: ProductTile) => (rows * columns) / (countOf(tile) * tile.rows * tile.columns);
  // A bias would have to be added to the sum of the parts.
  const mostParts = hasBias ? 1 : Math.max(1, Math.floor(inner / LEAST_INNER_OF_PART));
  const smallest = tiles[tiles.length - 1];
  const suits = (tile: ProductTile) =>
    turnsEvenly(tile, attrs) &&
    countOf(tile) * mostParts >= enoughWorkgroups &&
    usedPart(tile) >= usedPart(smallest) - MOST_WASTED;
  const tile = tiles.find(suits) ?? smallest;
  if (rows * columns * inner < leastMultiplyAdds || inner < tile.inner || usedPart(tile) < 0.5) return undefined;
  const wanted = Math.min(mostParts, Math.ceil(enoughWorkgroups / countOf(tile)));
  if (countOf(tile) * wanted < enoughWorkgroups / 2) return undefined;
  const innerOfPart = Math.ceil(inner / wanted / tile.inner) * tile.inner;
  return {tile, parts: Math.ceil(inner / innerOfPart), innerOfPart};
}

/** A quad of padding per column, as packed memory lays out transposed operands. */
function columnFloatsOf({columns, inner}: {columns: number; inner: number}): number {
  return columns * (inner + 4);
}

/** Devices that do not say how wide they are take the layout of GPUs. */
export function simdWidth({adapterInfo}: GPUDevice): 'wide' | 'narrow' {
  const width: number | undefined = adapterInfo?.subgroupMaxSize;
  return width !== undefined && width > 0 && width < 8 ? 'narrow' : 'wide';
}
