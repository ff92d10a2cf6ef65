/** `BlockLayout`: which blocks of a matrix, or of attention's score matrix, are live. */
import type {KernelBackend, TensorInfo} from '@tensorflow/tfjs-core';
import {
  type AttentionPatternOptions,
  type BlockPattern,
  type BlockSize,
  type ButterflyAttentionOptions,
  blockSizes,
  butterflyAttention,
  denseBlocks,
  documentBlocks,
  type FlatButterflyOptions,
  flatButterfly,
  type LocalGlobalOptions,
  localGlobal,
  type SequenceLengths,
  type SlidingWindowOptions,
  slidingWindow,
} from './block_patterns.js';
import {IndexBuffers} from './index_buffers.js';

/** Live blocks as a matrix of booleans, [row of blocks][column of blocks]; one such matrix per head where heads differ. */
export type BlockMask = boolean[][] | boolean[][][];

/** A layout as JSON: {@link BlockLayout.toJSON} writes it, {@link BlockLayout.fromJSON} reads it. */
export interface BlockLayoutJson {
  rowBlocks: number;
  colBlocks: number;
  blockSize: [number, number];
  heads: number;
  /** Of each row of blocks, one head after the other: the columns of its live blocks. */
  liveColumns: number[][];
}

/**
 * An immutable set of live blocks on a grid of rowBlocks × colBlocks blocks, compressed by row and by column: kernels
 * walk the blocks of a row in the forward pass and those of a column in the backward pass, and nothing is ever
 * transposed in memory, because the column form numbers the same blocks. The blocks are numbered row by row, head
 * after head; values of a block-sparse matrix [nnz, rowSize, colSize] stand in this order.
 *
 * The static methods make the usual layouts. Sizes are in elements (tokens), and any block with a wanted element lives.
 *
 * ```js
 * const layout = tf.BlockLayout.fromMask([[true, false], [true, true]], 32);
 * console.log([layout.nnz, layout.density]); // [3, 0.75]
 * ```
 */
export class BlockLayout {
  readonly rowBlocks: number;
  readonly colBlocks: number;
  /** Elements of a block along rows and columns. */
  readonly blockSize: readonly [number, number];
  /** How many patterns there are: 1 where all heads share one. */
  readonly heads: number;
  /** How many blocks are live, over all heads. */
  readonly nnz: number;
  /** Row r of blocks of head h has the blocks rowOffsets[h·rowBlocks + r] up to the next entry; [heads·rowBlocks + 1]. */
  readonly rowOffsets: Int32Array;
  /** The row of blocks, within its head, of each block; [nnz]. */
  readonly rowIndices: Int32Array;
  /** The column of blocks of each block; [nnz]. */
  readonly colIndices: Int32Array;
  /** Column c of head h has the entries colOffsets[h·colBlocks + c] up to the next of {@link blocksByColumn}. */
  readonly colOffsets: Int32Array;
  /** The numbers of the blocks, column by column and downwards in each; [nnz]. */
  readonly blocksByColumn: Int32Array;
  private readonly indexBuffers = new IndexBuffers();

  private constructor(pattern: BlockPattern) {
    const {rowBlocks, colBlocks, heads = 1} = pattern;
    for (const [name, value] of Object.entries({rowBlocks, colBlocks, heads})) assertCount(name, value);
    this.rowBlocks = rowBlocks;
    this.colBlocks = colBlocks;
    this.blockSize = blockSizes(pattern.blockSize);
    this.heads = heads;
    this.rowOffsets = new Int32Array(heads * rowBlocks + 1);
    this.colOffsets = new Int32Array(heads * colBlocks + 1);
    const rows: number[] = [];
    const columns: number[] = [];
    for (let headRow = 0; headRow < heads * rowBlocks; headRow++) {
      const [head, row] = [Math.floor(headRow / rowBlocks), headRow % rowBlocks];
      for (let col = 0; col < colBlocks; col++) {
        if (!pattern.isLive(row, col, head)) continue;
        rows.push(row);
        columns.push(col);
        this.colOffsets[head * colBlocks + col + 1]++;
      }
      this.rowOffsets[headRow + 1] = columns.length;
    }
    this.nnz = columns.length;
    this.rowIndices = Int32Array.from(rows);
    this.colIndices = Int32Array.from(columns);
    for (let i = 1; i < this.colOffsets.length; i++) this.colOffsets[i] += this.colOffsets[i - 1];
    this.blocksByColumn = this.sortByColumn();
  }

  /** A counting sort: blocks come row by row, so each column receives its own from top to bottom. */
  private sortByColumn(): Int32Array {
    const next = this.colOffsets.slice(0, -1);
    const sorted = new Int32Array(this.nnz);
    for (let headRow = 0; headRow < this.heads * this.rowBlocks; headRow++) {
      const firstColumn = Math.floor(headRow / this.rowBlocks) * this.colBlocks;
      for (let block = this.rowOffsets[headRow]; block < this.rowOffsets[headRow + 1]; block++) {
        sorted[next[firstColumn + this.colIndices[block]]++] = block;
      }
    }
    return sorted;
  }

  /**
   * The layout whose block at (row, col) of a head is live where `pattern.isLive(row, col, head)` says so.
   *
   * @throws Error if rowBlocks, colBlocks, heads or a block size is not a positive integer.
   */
  static from(pattern: BlockPattern): BlockLayout {
    return new BlockLayout(pattern);
  }

  /**
   * Every block of a matrix of rows × cols elements.
   *
   * ```js
   * console.log(tf.BlockLayout.dense(128, 64, 32).shape); // [128, 64]
   * ```
   */
  static dense(rows: number, cols: number, blockSize: BlockSize): BlockLayout {
    return new BlockLayout(denseBlocks(rows, cols, blockSize));
  }

  /**
   * The flat block butterfly of a weight matrix: rows and columns are divided into k = `butterflySize` bands, and an
   * element is wanted iff the XOR of its two bands is 0 or a power of two below 2^`factors` (Chen et al. 2022, Pixelated
   * Butterfly, arXiv 2112.00029). Where bands are whole blocks, the density is (factors + 1) / k, with as many blocks
   * in each row as in any other; bands that cut through blocks make more of them live, as `density` tells.
   *
   * ```js
   * const layout = tf.BlockLayout.flatButterfly({rows: 128, cols: 128, blockSize: 32, butterflySize: 4, factors: 1});
   * console.log(layout.toString().split('\n')); // [██··, ██··, ··██, ··██]
   * ```
   *
   * @throws Error if rows or cols is no multiple of the block size, or butterflySize, factors or globalSize is out of range.
   */
  static flatButterfly(options: FlatButterflyOptions): BlockLayout {
    return new BlockLayout(flatButterfly(options));
  }

  /**
   * Attention to keys within a window of the query, aligned bottom-right as in `flashAttention`.
   *
   * @param sequence how many queries and keys there are: a length, or [Sq, Sk].
   * @throws Error if a length, the window or the block size is out of range.
   */
  static slidingWindow(sequence: SequenceLengths, options: SlidingWindowOptions): BlockLayout {
    return new BlockLayout(slidingWindow(sequence, options));
  }

  /**
   * A sliding window, and some first tokens that see all and are seen by all (Longformer, BigBird).
   *
   * @param sequence how many queries and keys there are: a length, or [Sq, Sk].
   * @throws Error if a length, the window, globalSize or the block size is out of range.
   */
  static localGlobal(sequence: SequenceLengths, options: LocalGlobalOptions): BlockLayout {
    return new BlockLayout(localGlobal(sequence, options));
  }

  /**
   * A flat butterfly of the score matrix, and blocks near the diagonal and of the first tokens.
   *
   * ```js
   * const layout = tf.BlockLayout.butterflyAttention(1024, {blockSize: 64, causal: true});
   * console.log([layout.nnz, layout.rowBlocks * layout.colBlocks]); // [80, 256]
   * ```
   *
   * @param sequence how many queries and keys there are: a length, or [Sq, Sk].
   * @throws Error if a length, or an option, is out of range.
   */
  static butterflyAttention(sequence: SequenceLengths, options?: ButterflyAttentionOptions): BlockLayout {
    return new BlockLayout(butterflyAttention(sequence, options));
  }

  /**
   * Attention within documents that follow one another in one sequence. A block at a border serves both: give `bias` or
   * `mask` too, or align the documents to blocks, where queries must not see keys of a neighbour.
   *
   * @param lengths tokens of each document.
   * @throws Error if a length or the block size is not a positive integer.
   */
  static document(lengths: readonly number[], options?: AttentionPatternOptions): BlockLayout {
    return new BlockLayout(documentBlocks(lengths, options));
  }

  /**
   * The layout of a matrix of booleans, or of one such matrix per head: true where the block is live.
   *
   * @throws Error if the mask has no rows or columns, or rows or heads of different sizes.
   */
  static fromMask(mask: BlockMask, blockSize: BlockSize): BlockLayout {
    const perHead = (Array.isArray(mask[0]?.[0]) ? mask : [mask]) as boolean[][][];
    const [rowBlocks, colBlocks] = [perHead[0].length, perHead[0][0]?.length ?? 0];
    const isMatrix = perHead.every(
      (rows) => rows.length === rowBlocks && rows.every((row) => row.length === colBlocks),
    );
    if (!isMatrix || rowBlocks === 0 || colBlocks === 0) {
      const found = perHead.map((rows) => `[${rows.map((row) => row.length).join(', ')}]`).join(', ');
      throw new Error(`BlockLayout: mask must have rows of one length, in every head; the rows' lengths are ${found}.`);
    }
    const isLive = (row: number, col: number, head: number) => perHead[head][row][col];
    return new BlockLayout({rowBlocks, colBlocks, blockSize, heads: perHead.length, isLive});
  }

  /**
   * The layout that {@link toJSON} wrote.
   *
   * @throws Error if rows are missing or a column is outside of the grid.
   */
  static fromJSON(json: BlockLayoutJson): BlockLayout {
    const {liveColumns, rowBlocks, colBlocks, heads} = json;
    if (liveColumns?.length !== heads * rowBlocks) {
      throw new Error(
        `BlockLayout: liveColumns must have one list for each of ${heads} × ${rowBlocks} rows, got ${liveColumns?.length}.`,
      );
    }
    const outside = liveColumns.flat().find((col) => !Number.isInteger(col) || col < 0 || col >= colBlocks);
    if (outside !== undefined) {
      throw new Error(`BlockLayout: liveColumns must lie in [0, ${colBlocks}), got ${outside}.`);
    }
    const rows = liveColumns.map((columns) => new Set(columns));
    return new BlockLayout({...json, isLive: (row, col, head) => rows[head * rowBlocks + row].has(col)});
  }

  /** Elements of the matrix that the grid covers: [rows, columns]. */
  get shape(): [number, number] {
    return [this.rowBlocks * this.blockSize[0], this.colBlocks * this.blockSize[1]];
  }

  /** The part of all blocks that is live, over all heads: from 0 to 1. */
  get density(): number {
    return this.nnz / (this.heads * this.rowBlocks * this.colBlocks);
  }

  /** Whether a block is live. Heads beyond a shared pattern have that pattern. */
  isLive(row: number, col: number, head = 0): boolean {
    const headRow = (this.heads === 1 ? 0 : head) * this.rowBlocks + row;
    return this.columnsOf(headRow).includes(col);
  }

  /** Of each column of blocks, 1 where it is live in this row of blocks, else 0. */
  liveColumns(head: number, row: number): Uint8Array {
    const live = new Uint8Array(this.colBlocks);
    for (const col of this.columnsOf((this.heads === 1 ? 0 : head) * this.rowBlocks + row)) live[col] = 1;
    return live;
  }

  /** Which head's pattern a block, by its number, belongs to. */
  headOf(block: number): number {
    let head = 0;
    while (this.rowOffsets[(head + 1) * this.rowBlocks] <= block) head++;
    return head;
  }

  /** Blocks that are live in this layout or in the other. */
  union(other: BlockLayout): BlockLayout {
    return this.combine('union', other, (mine, others) => mine || others);
  }

  /** Blocks that are live in both layouts. */
  intersect(other: BlockLayout): BlockLayout {
    return this.combine('intersect', other, (mine, others) => mine && others);
  }

  private combine(name: string, other: BlockLayout, live: (mine: boolean, others: boolean) => boolean): BlockLayout {
    const heads = Math.max(this.heads, other.heads);
    const sameGrid = this.rowBlocks === other.rowBlocks && this.colBlocks === other.colBlocks;
    const sameBlocks = this.blockSize.every((size, axis) => size === other.blockSize[axis]);
    const sameHeads = [this.heads, other.heads].every((count) => count === 1 || count === heads);
    if (!sameGrid || !sameBlocks || !sameHeads) {
      throw new Error(
        `BlockLayout.${name}: other must have the grid of this layout, ${this.grid()}, got ${other.grid()}.`,
      );
    }
    const [mine, others] = [this.toLookup(), other.toLookup()];
    const {rowBlocks, colBlocks, blockSize} = this;
    const isLive = (row: number, col: number, head: number) => live(mine(row, col, head), others(row, col, head));
    return new BlockLayout({rowBlocks, colBlocks, blockSize, heads, isLive});
  }

  /** The layout of the transposed matrix. */
  transpose(): BlockLayout {
    const lookup = this.toLookup();
    const {rowBlocks, colBlocks, heads} = this;
    return new BlockLayout({
      rowBlocks: colBlocks,
      colBlocks: rowBlocks,
      blockSize: [this.blockSize[1], this.blockSize[0]],
      heads,
      isLive: (row, col, head) => lookup(col, row, head),
    });
  }

  /** Whether the other layout has the same grid and the same live blocks. */
  equals(other: BlockLayout): boolean {
    return (
      this.grid() === other.grid() &&
      this.nnz === other.nnz &&
      this.rowOffsets.every((offset, i) => offset === other.rowOffsets[i]) &&
      this.colIndices.every((col, i) => col === other.colIndices[i])
    );
  }

  /** Live blocks as booleans: a matrix, or one matrix per head where there are several. */
  toMask(): BlockMask {
    const lookup = this.toLookup();
    const ofHead = (head: number) =>
      Array.from({length: this.rowBlocks}, (_, row) =>
        Array.from({length: this.colBlocks}, (__, col) => lookup(row, col, head)),
      );
    return this.heads === 1 ? ofHead(0) : Array.from({length: this.heads}, (_, head) => ofHead(head));
  }

  /** A drawing, a character per block: █ is live, · is not. Heads are separated by an empty line. */
  toString(): string {
    const draw = (rows: boolean[][]) => rows.map((row) => row.map((live) => (live ? '█' : '·')).join('')).join('\n');
    const mask = this.toMask();
    return this.heads === 1 ? draw(mask as boolean[][]) : (mask as boolean[][][]).map(draw).join('\n\n');
  }

  /** The layout as plain JSON, which `JSON.stringify` asks for. */
  toJSON(): BlockLayoutJson {
    const {rowBlocks, colBlocks, heads} = this;
    return {
      rowBlocks,
      colBlocks,
      blockSize: [this.blockSize[0], this.blockSize[1]],
      heads,
      liveColumns: Array.from({length: heads * rowBlocks}, (_, headRow) => Array.from(this.columnsOf(headRow))),
    };
  }

  /**
   * For kernels: int32 indices that a backend's kernels need of this layout. They are made on first use and stay on the
   * backend until {@link dispose}.
   */
  indexBuffer(backend: KernelBackend, name: string, make: () => {shape: number[]; values: Int32Array}): TensorInfo {
    return this.indexBuffers.get(backend, name, make);
  }

  /**
   * Frees the index buffers that kernels made of this layout on their backends. The layout itself stays as it is; if it
   * is used again, kernels make new ones.
   */
  dispose(): void {
    this.indexBuffers.dispose();
  }

  private columnsOf(headRow: number): Int32Array {
    return this.colIndices.subarray(this.rowOffsets[headRow], this.rowOffsets[headRow + 1]);
  }

  /** `isLive` for asking about all blocks: a table of bytes in place of a search. */
  private toLookup(): (row: number, col: number, head: number) => boolean {
    const {rowBlocks, colBlocks, heads} = this;
    const table = new Uint8Array(heads * rowBlocks * colBlocks);
    for (let headRow = 0; headRow < heads * rowBlocks; headRow++) {
      for (const col of this.columnsOf(headRow)) table[headRow * colBlocks + col] = 1;
    }
    return (row, col, head) => table[((heads === 1 ? 0 : head) * rowBlocks + row) * colBlocks + col] === 1;
  }

  /** The grid in words, for comparisons and errors. */
  private grid(): string {
    const heads = this.heads === 1 ? '' : ` in ${this.heads} heads`;
    return `${this.rowBlocks} × ${this.colBlocks} blocks of ${this.blockSize.join(' × ')}${heads}`;
  }
}

function assertCount(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1) {
    throw new Error(`BlockLayout: ${name} must be a positive integer, got ${value}.`);
  }
}
