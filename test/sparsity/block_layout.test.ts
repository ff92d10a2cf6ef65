/** BlockLayout: its two compressed forms, its operations, and its generators against their definitions by elements. */
import * as tf from '@tensorflow/tfjs-core';
import {BlockLayout} from '../../src/index.js';
import type {BlockSize} from '../../src/sparsity/block_patterns.js';
import {describeOnBackends} from '../backends.js';

/** The blocks that hold a wanted element, by trying every element. */
function blocksWith(
  [rows, cols]: [number, number],
  [rowSize, colSize]: [number, number],
  wanted: (row: number, col: number) => boolean,
): boolean[][] {
  const mask = Array.from({length: Math.ceil(rows / rowSize)}, () =>
    Array<boolean>(Math.ceil(cols / colSize)).fill(false),
  );
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      if (wanted(row, col)) mask[Math.floor(row / rowSize)][Math.floor(col / colSize)] = true;
    }
  }
  return mask;
}

const pair = (size: BlockSize): [number, number] => (typeof size === 'number' ? [size, size] : [size[0], size[1]]);

/** A pattern without any regularity, in which rows and columns may be empty. */
const random = (seed: number) => (row: number, col: number, head: number) => {
  const noise = 43758.5453 * Math.sin(seed + 12.9898 * row + 78.233 * col + 37.719 * head);
  return noise - Math.floor(noise) < 0.3;
};

describe('BlockLayout', () => {
  const sparse = BlockLayout.from({rowBlocks: 7, colBlocks: 5, blockSize: [16, 8], isLive: random(1)});
  const perHead = BlockLayout.from({rowBlocks: 4, colBlocks: 6, blockSize: 32, heads: 3, isLive: random(2)});

  for (const [name, layout] of Object.entries({sparse, perHead})) {
    it(`numbers the same blocks by row and by column: ${name}`, () => {
      const byRow: string[] = [];
      const byColumn: string[] = [];
      for (let head = 0; head < layout.heads; head++) {
        for (let row = 0; row < layout.rowBlocks; row++) {
          const headRow = head * layout.rowBlocks + row;
          for (let i = layout.rowOffsets[headRow]; i < layout.rowOffsets[headRow + 1]; i++) {
            expect(layout.rowIndices[i]).toBe(row);
            byRow.push(`${head} ${row} ${layout.colIndices[i]} ${i}`);
          }
        }
        for (let col = 0; col < layout.colBlocks; col++) {
          const headColumn = head * layout.colBlocks + col;
          for (let i = layout.colOffsets[headColumn]; i < layout.colOffsets[headColumn + 1]; i++) {
            const block = layout.blocksByColumn[i];
            expect(layout.colIndices[block]).toBe(col);
            byColumn.push(`${head} ${layout.rowIndices[block]} ${col} ${block}`);
          }
        }
      }
      expect(byRow.length).toBe(layout.nnz);
      expect(layout.nnz).toBeGreaterThan(0);
      expect(byColumn.sort()).toEqual(byRow.sort());
    });

    it(`survives masks, JSON and two transpositions: ${name}`, () => {
      const size = pair(layout.blockSize as BlockSize);
      expect(BlockLayout.fromMask(layout.toMask(), size).equals(layout)).toBe(true);
      expect(BlockLayout.fromJSON(JSON.parse(JSON.stringify(layout))).equals(layout)).toBe(true);
      const transposed = layout.transpose();
      expect(transposed.shape).toEqual([layout.shape[1], layout.shape[0]]);
      expect(transposed.equals(layout)).toBe(false);
      expect(transposed.isLive(3, 2)).toBe(layout.isLive(2, 3));
      expect(transposed.transpose().equals(layout)).toBe(true);
    });
  }

  it('unites and intersects, a shared pattern with one per head too', () => {
    const shared = BlockLayout.from({rowBlocks: 4, colBlocks: 6, blockSize: 32, isLive: random(3)});
    const both = [perHead.union(shared), perHead.intersect(shared)];
    expect(both.map(({heads}) => heads)).toEqual([3, 3]);
    for (let head = 0; head < 3; head++) {
      for (let row = 0; row < 4; row++) {
        for (let col = 0; col < 6; col++) {
          const [mine, others] = [perHead.isLive(row, col, head), shared.isLive(row, col, head)];
          expect(both.map((layout) => layout.isLive(row, col, head))).toEqual([mine || others, mine && others]);
        }
      }
    }
  });

  it('draws itself, a character per block', () => {
    expect(
      BlockLayout.fromMask(
        [
          [true, false, false],
          [false, true, true],
        ],
        8,
      ).toString(),
    ).toBe('█··\n·██');
    expect(BlockLayout.fromMask([[[true]], [[false]]], 8).toString()).toBe('█\n\n·');
  });

  it('knows its density, also with no block alive', () => {
    const none = BlockLayout.from({rowBlocks: 3, colBlocks: 2, blockSize: 8, isLive: () => false});
    expect([none.nnz, none.density]).toEqual([0, 0]);
    expect(Array.from(none.colOffsets)).toEqual([0, 0, 0]);
    expect(BlockLayout.dense(40, 70, [16, 32]).density).toBe(1);
  });

  it('says what is wrong with its arguments', () => {
    expect(() => BlockLayout.dense(64, 64, 0)).toThrowError(
      'BlockLayout: blockSize must be one or two positive integers, got 0.',
    );
    expect(() => BlockLayout.from({rowBlocks: 1.5, colBlocks: 1, blockSize: 8, isLive: () => true})).toThrowError(
      'BlockLayout: rowBlocks must be a positive integer, got 1.5.',
    );
    expect(() => BlockLayout.fromMask([[true, false], [true]], 8)).toThrowError(
      "BlockLayout: mask must have rows of one length, in every head; the rows' lengths are [2, 1].",
    );
    expect(() => sparse.union(perHead)).toThrowError(
      'BlockLayout.union: other must have the grid of this layout, 7 × 5 blocks of 16 × 8, got 4 × 6 blocks of 32 × 32 in 3 heads.',
    );
    expect(() => BlockLayout.fromJSON({...sparse.toJSON(), liveColumns: []})).toThrowError(
      'BlockLayout: liveColumns must have one list for each of 1 × 7 rows, got 0.',
    );
    const json = BlockLayout.dense(8, 8, 8).toJSON();
    expect(() => BlockLayout.fromJSON({...json, liveColumns: [[1]]})).toThrowError(
      'BlockLayout: liveColumns must lie in [0, 1), got 1.',
    );
  });
});

describeOnBackends('BlockLayout on a backend', () => {
  it('makes index buffers once and frees them when it is disposed', () => {
    const layout = BlockLayout.dense(16, 16, 8);
    const backend = tf.backend();
    const before = backend.numDataIds();
    let made = 0;
    const use = (name: string) =>
      layout.indexBuffer(backend, name, () => {
        made++;
        return {shape: [2], values: Int32Array.of(3, 4)};
      });
    expect(use('rows')).toBe(use('rows'));
    expect(use('columns')).not.toBe(use('rows'));
    expect([made, backend.numDataIds()]).toEqual([2, before + 2]);
    layout.dispose();
    layout.dispose();
    expect(backend.numDataIds()).toBe(before);
    use('rows');
    expect(made).toBe(3);
    layout.dispose();
  });
});

describe('BlockLayout.flatButterfly', () => {
  const wanted =
    (rows: number, cols: number, butterflySize: number, factors: number, globalSize: number) =>
    (row: number, col: number) => {
      const difference = Math.floor(row / (rows / butterflySize)) ^ Math.floor(col / (cols / butterflySize));
      const powers = Array.from({length: factors}, (_, i) => 2 ** i);
      return difference === 0 || powers.includes(difference) || row < globalSize || col < globalSize;
    };

  for (const [rows, cols, blockSize, butterflySize, factors, globalSize] of [
    [64, 64, 8, 8, 3, 0],
    [64, 128, 8, 4, 1, 0],
    [96, 384, 16, 4, 2, 20],
    [96, 96, 32, 8, 2, 0],
    [48, 144, 8, 16, 3, 1],
    [64, 64, 16, 1, 0, 0],
  ]) {
    const options = {rows, cols, blockSize, butterflySize, factors, globalSize};
    it(`has the blocks of its definition: ${JSON.stringify(options)}`, () => {
      const rule = wanted(rows, cols, butterflySize, factors, globalSize);
      const expected = blocksWith([rows, cols], [blockSize, blockSize], rule);
      expect(BlockLayout.flatButterfly(options).toMask()).toEqual(expected);
    });
  }

  it('has density (f + 1) / k and equal rows where bands are whole blocks, more where they are not', () => {
    const aligned = BlockLayout.flatButterfly({rows: 512, cols: 1024, blockSize: 32, butterflySize: 16, factors: 3});
    expect(aligned.density).toBe(4 / 16);
    const perRow = new Set(Array.from(aligned.rowOffsets.slice(1), (end, row) => end - aligned.rowOffsets[row]));
    expect(perRow.size).toBe(1);
    const misaligned = {rows: 3072, cols: 768, blockSize: 32, butterflySize: 16, factors: 2};
    expect(BlockLayout.flatButterfly(misaligned).density).toBeCloseTo(0.208, 3);
  });

  it('says what is wrong with its options', () => {
    const options = {rows: 64, cols: 64, blockSize: 16, butterflySize: 4, factors: 2};
    expect(() => BlockLayout.flatButterfly({...options, rows: 65})).toThrowError(
      'BlockLayout.flatButterfly: rows must be a multiple of the block size 16, got 65.',
    );
    expect(() => BlockLayout.flatButterfly({...options, butterflySize: 3})).toThrowError(
      'BlockLayout.flatButterfly: butterflySize must be a power of two from 1 to 64, got 3.',
    );
    expect(() => BlockLayout.flatButterfly({...options, factors: 3})).toThrowError(
      'BlockLayout.flatButterfly: factors must be an integer from 0 to log2 of butterflySize 4, 2, got 3.',
    );
    expect(() => BlockLayout.flatButterfly({...options, globalSize: -1})).toThrowError(
      'BlockLayout.flatButterfly: globalSize must be an integer, not negative, got -1.',
    );
  });
});

describe('Attention layouts', () => {
  const sequences: [number, number][] = [
    [64, 64],
    [50, 50],
    [37, 101],
    [101, 37],
    [1, 40],
  ];
  const sizes: BlockSize[] = [16, [8, 16], [16, 8]];
  const ahead = ([queries, keys]: [number, number], query: number, key: number) => key - (query + keys - queries);
  const inWindow = (distance: number, [left, right]: [number, number]) =>
    (left < 0 || distance >= -left) && (right < 0 || distance <= right);

  for (const sequence of sequences) {
    for (const blockSize of sizes) {
      for (const causal of [false, true]) {
        const title = `${JSON.stringify(sequence)} in blocks of ${JSON.stringify(blockSize)}${causal ? ', causal' : ''}`;
        const isPast = (query: number, key: number) => !causal || ahead(sequence, query, key) <= 0;
        const masked = (rule: (query: number, key: number) => boolean) =>
          blocksWith(sequence, pair(blockSize), (query, key) => isPast(query, key) && rule(query, key));

        it(`slidingWindow ${title}`, () => {
          for (const window of [
            [5, 3],
            [0, 0],
            [-1, 2],
            [20, -1],
          ] as [number, number][]) {
            const layout = BlockLayout.slidingWindow(sequence, {blockSize, causal, window});
            const rule = (query: number, key: number) => inWindow(ahead(sequence, query, key), window);
            expect(layout.toMask()).withContext(`${window}`).toEqual(masked(rule));
          }
        });

        it(`localGlobal ${title}`, () => {
          const layout = BlockLayout.localGlobal(sequence, {blockSize, causal, window: [4, 4], globalSize: 9});
          // Global tokens make whole blocks live: these tokens' neighbours in their blocks count as global.
          const expected = masked((query, key) => {
            const [rowSize, colSize] = pair(blockSize);
            const isGlobal = Math.floor(query / rowSize) * rowSize < 9 || Math.floor(key / colSize) * colSize < 9;
            return isGlobal || inWindow(ahead(sequence, query, key), [4, 4]);
          });
          expect(layout.toMask()).toEqual(expected);
        });
      }
    }
  }

  it('document keeps to documents, also where they end within blocks', () => {
    const lengths = [20, 3, 33, 8];
    const documentOf = lengths.flatMap((length, i) => Array<number>(length).fill(i));
    for (const causal of [false, true]) {
      const expected = blocksWith([64, 64], [16, 8], (query, key) => {
        return documentOf[query] === documentOf[key] && (!causal || key <= query);
      });
      expect(BlockLayout.document(lengths, {blockSize: [16, 8], causal}).toMask()).toEqual(expected);
    }
  });

  it('butterflyAttention is the union of a butterfly, the neighbourhood and the first tokens', () => {
    const options = {blockSize: 16, butterflySize: 8, factors: 3, localSize: 10, globalSize: 16};
    const layout = BlockLayout.butterflyAttention(256, options);
    const butterfly = BlockLayout.flatButterfly({...options, rows: 256, cols: 256, globalSize: 16});
    const near = BlockLayout.slidingWindow(256, {blockSize: 16, window: [10, 10]});
    expect(layout.equals(butterfly.union(near))).toBe(true);
    const past = BlockLayout.slidingWindow(256, {blockSize: 16, window: [-1, 0]});
    expect(BlockLayout.butterflyAttention(256, {...options, causal: true}).equals(layout.intersect(past))).toBe(true);
  });

  it('say what is wrong with their options', () => {
    expect(() => BlockLayout.slidingWindow(0, {window: [1, 1]})).toThrowError(
      'BlockLayout.slidingWindow: sequence must be a length or [queries, keys], positive integers, got 0.',
    );
    expect(() => BlockLayout.slidingWindow(8, {window: [1.5, 1]})).toThrowError(
      'BlockLayout.slidingWindow: window must be [left, right], two integers from −1 on, got [1.5,1].',
    );
    expect(() => BlockLayout.document([])).toThrowError(
      'BlockLayout.document: lengths must be positive integers, got [].',
    );
    expect(() => BlockLayout.butterflyAttention(64, {butterflySize: 128})).toThrowError(
      'BlockLayout.butterflyAttention: butterflySize must be a power of two from 1 to 64, got 128.',
    );
  });
});
