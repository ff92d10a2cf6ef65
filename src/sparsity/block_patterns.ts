/**
 * The usual patterns of live blocks, as rules: for a block, whether any element of it is wanted. `BlockLayout` offers
 * them as its static methods.
 */

/** A block of rowSize × colSize elements. A number stands for a square one. */
export type BlockSize = number | readonly [rowSize: number, colSize: number];

/** The grid that a layout's blocks lie in. */
export interface BlockGrid {
  rowBlocks: number;
  colBlocks: number;
  blockSize: BlockSize;
  /** How many patterns, one per attention head. Default 1: the same for all heads. */
  heads?: number;
}

/** A grid and the rule that says which of its blocks are live. */
export interface BlockPattern extends BlockGrid {
  isLive(row: number, col: number, head: number): boolean;
}

/** Queries and keys of attention; a number stands for as many keys as queries. */
export type SequenceLengths = number | readonly [queries: number, keys: number];

/** Flat block butterfly of a weight matrix. */
export interface FlatButterflyOptions {
  /** Rows of the matrix, a multiple of the block's. */
  rows: number;
  /** Columns of the matrix, a multiple of the block's. */
  cols: number;
  blockSize: BlockSize;
  /** Bands k that rows and columns are divided into: a power of two, at most as many as rows and as columns. */
  butterflySize: number;
  /** Butterfly factors f, from 0 (only the diagonal) to log2 k (the whole butterfly). */
  factors: number;
  /** This many of the first rows and the first columns are live throughout, in whole blocks. Default 0. */
  globalSize?: number;
}

/** What attention layouts have in common. */
export interface AttentionPatternOptions {
  /** Tokens of a block, [queries, keys] where they differ. Default 64. */
  blockSize?: BlockSize;
  /** Leaves out blocks all of whose keys come after all of its queries. Default false. */
  causal?: boolean;
}

export interface SlidingWindowOptions extends AttentionPatternOptions {
  /** [left, right]: query i sees keys from i + Sk − Sq − left to i + Sk − Sq + right; −1 sets no limit on that side. */
  window: readonly [left: number, right: number];
}

export interface LocalGlobalOptions extends SlidingWindowOptions {
  /** The first so many tokens see all and are seen by all. */
  globalSize: number;
}

export interface ButterflyAttentionOptions extends AttentionPatternOptions {
  /** Bands k of the butterfly, a power of two. Default: the largest one with a block for each band. */
  butterflySize?: number;
  /** Butterfly factors f. Default log2 k: the whole butterfly. */
  factors?: number;
  /** Tokens that each query sees on either side of it. Default the keys of a block. */
  localSize?: number;
  /** The first so many tokens see all and are seen by all. Default the keys of a block. */
  globalSize?: number;
}

const DEFAULT_BLOCK_SIZE = 64;

export function denseBlocks(rows: number, cols: number, blockSize: BlockSize): BlockPattern {
  return {...gridOver('dense', [rows, cols], blockSize), isLive: () => true};
}

/**
 * Element (r, c) is wanted iff the XOR of its bands, floor(r·k / rows) and floor(c·k / cols), is 0 or a power of two
 * below 2^f (Pixelated Butterfly, Chen et al. 2022, flat block butterfly).
 */
export function flatButterfly(options: FlatButterflyOptions): BlockPattern {
  const {rows, cols, blockSize, butterflySize, factors, globalSize = 0} = options;
  const grid = gridOver('flatButterfly', [rows, cols], blockSize);
  const [rowSize, colSize] = blockSizes(blockSize);
  for (const [name, size, block] of [['rows', rows, rowSize] as const, ['cols', cols, colSize] as const]) {
    if (size % block !== 0) {
      throw new Error(`BlockLayout.flatButterfly: ${name} must be a multiple of the block size ${block}, got ${size}.`);
    }
  }
  assertButterfly('flatButterfly', butterflySize, factors, Math.min(rows, cols));
  assertTokens('flatButterfly', 'globalSize', globalSize);
  const bandsOfRows = bandsOf(rows, rowSize, butterflySize);
  const bandsOfCols = bandsOf(cols, colSize, butterflySize);
  return {
    ...grid,
    isLive: (row, col) =>
      row * rowSize < globalSize ||
      col * colSize < globalSize ||
      anyButterflyPair(bandsOfRows(row), bandsOfCols(col), factors),
  };
}

export function slidingWindow(sequence: SequenceLengths, options: SlidingWindowOptions): BlockPattern {
  const {blockSize = DEFAULT_BLOCK_SIZE, causal = false, window} = options;
  const lengths = checkedLengths('slidingWindow', sequence);
  if (window?.length !== 2 || !window.every((size) => Number.isInteger(size) && size >= -1)) {
    throw new Error(
      `BlockLayout.slidingWindow: window must be [left, right], two integers from −1 on, got ${JSON.stringify(window)}.`,
    );
  }
  const [left, right] = window.map((size) => (size < 0 ? Number.POSITIVE_INFINITY : size));
  const ahead = aheadOfDiagonal(lengths, blockSize);
  return {
    ...gridOver('slidingWindow', lengths, blockSize),
    isLive: (row, col) => {
      const [least, most] = ahead(row, col);
      return most >= -left && least <= (causal ? Math.min(right, 0) : right);
    },
  };
}

export function localGlobal(sequence: SequenceLengths, options: LocalGlobalOptions): BlockPattern {
  const {blockSize = DEFAULT_BLOCK_SIZE, causal = false, globalSize} = options;
  assertTokens('localGlobal', 'globalSize', globalSize);
  const local = slidingWindow(sequence, options);
  const isGlobal = globalRule(sequence, blockSize, causal, globalSize);
  return {...local, isLive: (row, col, head) => local.isLive(row, col, head) || isGlobal(row, col)};
}

export function butterflyAttention(sequence: SequenceLengths, options: ButterflyAttentionOptions = {}): BlockPattern {
  const {blockSize = DEFAULT_BLOCK_SIZE, causal = false} = options;
  const lengths = checkedLengths('butterflyAttention', sequence);
  const sizes = blockSizes(blockSize);
  const grid = gridOver('butterflyAttention', lengths, blockSize);
  const mostBands = Math.min(grid.rowBlocks, grid.colBlocks);
  const {butterflySize = 2 ** Math.floor(Math.log2(mostBands))} = options;
  const {factors = Math.log2(butterflySize), localSize = sizes[1], globalSize = sizes[1]} = options;
  assertButterfly('butterflyAttention', butterflySize, factors, Math.min(...lengths));
  assertTokens('butterflyAttention', 'localSize', localSize);
  const near = localGlobal(lengths, {blockSize, causal, globalSize, window: [localSize, localSize]});
  const bandsOfRows = bandsOf(lengths[0], sizes[0], butterflySize);
  const bandsOfCols = bandsOf(lengths[1], sizes[1], butterflySize);
  const ahead = aheadOfDiagonal(lengths, blockSize);
  return {
    ...grid,
    isLive: (row, col, head) =>
      near.isLive(row, col, head) ||
      ((!causal || ahead(row, col)[0] <= 0) && anyButterflyPair(bandsOfRows(row), bandsOfCols(col), factors)),
  };
}

/** Blocks with a query and a key of the same document, where documents of these lengths follow one another. */
export function documentBlocks(documents: readonly number[], options: AttentionPatternOptions = {}): BlockPattern {
  const {blockSize = DEFAULT_BLOCK_SIZE, causal = false} = options;
  if (!documents.every((length) => Number.isInteger(length) && length > 0) || documents.length === 0) {
    throw new Error(`BlockLayout.document: lengths must be positive integers, got ${JSON.stringify(documents)}.`);
  }
  const documentOfToken = documents.flatMap((length, index) => Array<number>(length).fill(index));
  const tokens = documentOfToken.length;
  const [rowSize, colSize] = blockSizes(blockSize);
  const documentsOf = (block: number, size: number) => {
    const last = Math.min((block + 1) * size, tokens) - 1;
    return [documentOfToken[block * size], documentOfToken[last]];
  };
  const ahead = aheadOfDiagonal([tokens, tokens], blockSize);
  return {
    ...gridOver('document', [tokens, tokens], blockSize),
    isLive: (row, col) => {
      const [firstOfRows, lastOfRows] = documentsOf(row, rowSize);
      const [firstOfCols, lastOfCols] = documentsOf(col, colSize);
      return firstOfRows <= lastOfCols && firstOfCols <= lastOfRows && (!causal || ahead(row, col)[0] <= 0);
    },
  };
}

/** [rowSize, colSize], checked. */
export function blockSizes(blockSize: BlockSize): readonly [number, number] {
  const sizes = typeof blockSize === 'number' ? ([blockSize, blockSize] as const) : blockSize;
  if (sizes?.length !== 2 || !sizes.every((size) => Number.isInteger(size) && size > 0)) {
    throw new Error(`BlockLayout: blockSize must be one or two positive integers, got ${JSON.stringify(blockSize)}.`);
  }
  return sizes;
}

function gridOver(generator: string, [rows, cols]: readonly [number, number], blockSize: BlockSize): BlockGrid {
  const [rowSize, colSize] = blockSizes(blockSize);
  if (![rows, cols].every((size) => Number.isInteger(size) && size > 0)) {
    throw new Error(`BlockLayout.${generator}: the grid must have rows and columns, got ${rows} × ${cols} elements.`);
  }
  return {rowBlocks: Math.ceil(rows / rowSize), colBlocks: Math.ceil(cols / colSize), blockSize};
}

/** The first and the last band, of `bands` equal ones, that a block reaches into. */
function bandsOf(size: number, blockSize: number, bands: number): (block: number) => readonly [number, number] {
  const bandOf = (element: number) => Math.floor((element * bands) / size);
  return (block) => [bandOf(block * blockSize), bandOf(Math.min((block + 1) * blockSize, size) - 1)];
}

function anyButterflyPair(rows: readonly [number, number], cols: readonly [number, number], factors: number): boolean {
  for (let row = rows[0]; row <= rows[1]; row++) {
    for (let col = cols[0]; col <= cols[1]; col++) {
      const difference = row ^ col;
      const isZeroOrPower = (difference & (difference - 1)) === 0;
      if (isZeroOrPower && difference < 2 ** factors) return true;
    }
  }
  return false;
}

/**
 * How far keys of a block are ahead of its queries' diagonal, key i + Sk − Sq for query i: the least and the most over
 * the block's pairs.
 */
function aheadOfDiagonal(
  [queries, keys]: readonly [number, number],
  blockSize: BlockSize,
): (row: number, col: number) => readonly [number, number] {
  const [rowSize, colSize] = blockSizes(blockSize);
  const diagonal = keys - queries;
  return (row, col) => {
    const lastQuery = Math.min((row + 1) * rowSize, queries) - 1;
    const lastKey = Math.min((col + 1) * colSize, keys) - 1;
    return [col * colSize - lastQuery - diagonal, lastKey - row * rowSize - diagonal];
  };
}

function globalRule(
  sequence: SequenceLengths,
  blockSize: BlockSize,
  causal: boolean,
  globalSize: number,
): (row: number, col: number) => boolean {
  const [rowSize, colSize] = blockSizes(blockSize);
  const ahead = aheadOfDiagonal(checkedLengths('localGlobal', sequence), blockSize);
  return (row, col) =>
    (row * rowSize < globalSize || col * colSize < globalSize) && (!causal || ahead(row, col)[0] <= 0);
}

function checkedLengths(generator: string, sequence: SequenceLengths): readonly [number, number] {
  const lengths = typeof sequence === 'number' ? ([sequence, sequence] as const) : sequence;
  if (lengths?.length !== 2 || !lengths.every((length) => Number.isInteger(length) && length > 0)) {
    throw new Error(
      `BlockLayout.${generator}: sequence must be a length or [queries, keys], positive integers, got ${JSON.stringify(sequence)}.`,
    );
  }
  return lengths;
}

function assertButterfly(generator: string, butterflySize: number, factors: number, mostBands: number): void {
  const levels = Math.log2(butterflySize);
  if (!Number.isInteger(levels) || levels < 0 || butterflySize > mostBands) {
    throw new Error(
      `BlockLayout.${generator}: butterflySize must be a power of two from 1 to ${mostBands}, got ${butterflySize}.`,
    );
  }
  if (!Number.isInteger(factors) || factors < 0 || factors > levels) {
    throw new Error(
      `BlockLayout.${generator}: factors must be an integer from 0 to log2 of butterflySize ${butterflySize}, ${levels}, got ${factors}.`,
    );
  }
}

function assertTokens(generator: string, name: string, value: number): void {
  if (!Number.isInteger(value) || value < 0) {
    throw new Error(`BlockLayout.${generator}: ${name} must be an integer, not negative, got ${value}.`);
  }
}
