/**
 * Tile sizes of every attention kernel: the one place to tune. A kernel's generator takes a record and nothing else
 * decides its loops; a record is chosen by the device's limits and SIMD width, never by the name of a GPU.
 */

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
}

/** A side of a tile that blocks bound; the other sides are free. */
export interface TileBounds {
  rows?: number;
  columns?: number;
}

const MAX_SIDE = {wide: 64, narrow: 32};
const INNER = 16;

/**
 * The tile of a product whose output consists of blocks along rows or columns, or both: as large as the blocks, up to a
 * limit, with more of the free side where blocks are small, so that a tile still feeds a workgroup.
 */
export function chooseProductTile(device: GPUDevice, bounds: TileBounds): ProductTile {
  const width = simdWidth(device);
  const side = (bound: number, other: number | undefined) => {
    if (bound !== Number.POSITIVE_INFINITY) return Math.min(MAX_SIDE[width], Math.max(8, nextPowerOfTwo(bound)));
    return width === 'wide' && other !== undefined && other < 32 ? 2 * MAX_SIDE.wide : MAX_SIDE[width];
  };
  const {rows: rowBound = Number.POSITIVE_INFINITY, columns: columnBound = Number.POSITIVE_INFINITY} = bounds;
  const rows = side(rowBound, bounds.columns);
  const columns = side(columnBound, bounds.rows);
  const registers = width === 'wide' ? {threadRows: 4, threadColumns: 4} : {threadRows: 8, threadColumns: 8};
  // Small tiles give their invocations fewer rows, so that a SIMD group has no idle lanes.
  while (width === 'wide' && registers.threadRows > 1 && (rows * columns) / (4 * registers.threadRows) < 32) {
    registers.threadRows /= 2;
  }
  return {rows, columns, ...registers, ...productMemory(columns, width)};
}

function productMemory(columns: number, width: 'wide' | 'narrow') {
  const layout = width === 'wide' ? ('packed' as const) : ('planar' as const);
  return {inner: INNER, columnFloats: columns * (INNER + 4), layout};
}

function nextPowerOfTwo(value: number): number {
  return 2 ** Math.ceil(Math.log2(value));
}

/** Devices that do not say how wide they are take the layout of GPUs. */
function simdWidth({adapterInfo}: GPUDevice): 'wide' | 'narrow' {
  const width: number | undefined = adapterInfo?.subgroupMaxSize;
  return width !== undefined && width > 0 && width < 8 ? 'narrow' : 'wide';
}
