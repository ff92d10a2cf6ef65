/** monarchProject on every backend: the nearest Monarch matrix, its error, and clear messages about bad input. */
import * as tf from '@tensorflow/tfjs-core';
import {type ComplexPair, monarchProject, monarchToDense} from '../../src/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const randomPair = (shape: [number, number]): ComplexPair => ({
  real: tf.randomNormal(shape),
  imag: tf.randomNormal(shape),
});

/** The real and the imaginary parts, one after the other. */
async function valuesOf(matrix: tf.Tensor | ComplexPair): Promise<number[]> {
  const parts = matrix instanceof tf.Tensor ? [matrix] : [matrix.real, matrix.imag];
  return (await Promise.all(parts.map((part) => part.data<'float32'>()))).flatMap((values) => Array.from(values));
}

/** The error and the matrix that the projection stands for. */
async function projected(dense: tf.Tensor | ComplexPair, blocks: number) {
  if (dense instanceof tf.Tensor) {
    const {w1, w2, error} = await monarchProject(dense, {blocks});
    return {error, matrix: monarchToDense(w1, w2), shapes: [w1.shape, w2.shape]};
  }
  const {w1, w2, error} = await monarchProject(dense, {blocks});
  return {error, matrix: monarchToDense(w1, w2), shapes: [w1.real.shape, w2.real.shape]};
}

async function distance(a: tf.Tensor | ComplexPair, b: tf.Tensor | ComplexPair): Promise<number> {
  const [ofA, ofB] = [await valuesOf(a), await valuesOf(b)];
  return Math.hypot(...ofA.map((value, i) => value - ofB[i]));
}

/** ω^(row·column) for every row and every column in this order. */
function fourier(n: number, columns: number[]): ComplexPair {
  const angles = Array.from({length: n}, (_, row) => columns.map((column) => (-2 * Math.PI * row * column) / n));
  return {
    real: tf.tensor2d(angles.map((row) => row.map(Math.cos))),
    imag: tf.tensor2d(angles.map((row) => row.map(Math.sin))),
  };
}

describeOnBackends('monarchProject', () => {
  const shapes: {shape: [number, number]; blocks: number; q: number}[] = [
    {shape: [16, 16], blocks: 4, q: 4},
    {shape: [12, 32], blocks: 2, q: 6},
    {shape: [32, 12], blocks: 2, q: 6},
    {shape: [36, 20], blocks: 4, q: 4},
    {shape: [6, 4], blocks: 2, q: 2},
    {shape: [5, 7], blocks: 1, q: 5},
  ];
  for (const {shape, blocks, q} of shapes) {
    for (const isComplex of [false, true]) {
      it(`of ${isComplex ? 'complex' : 'real'} [${shape}] in ${blocks} blocks is as far away as it says, and stays`, async () => {
        const dense = isComplex ? randomPair(shape) : tf.randomNormal(shape);
        const rounding = 1e-6 * Math.hypot(...(await valuesOf(dense)));
        const once = await projected(dense, blocks);
        expect(once.shapes).toEqual([
          [blocks, q, shape[1] / blocks],
          [blocks, shape[0] / blocks, q],
        ]);
        expectWithin('error', [await distance(once.matrix, dense)], [once.error], rounding);
        const twice = await projected(once.matrix, blocks);
        expect(twice.error).toBeLessThan(rounding);
        expectWithin('second projection', await valuesOf(twice.matrix), await valuesOf(once.matrix), rounding);
      });
    }
  }

  it('leaves the smallest singular values out', async () => {
    // Each of its four parts of 4 × 4 has these on its diagonal, of which two are kept.
    const singularValues = [1, 4, 2, 3];
    const values = Array.from({length: 8}, (_, row) =>
      Array.from({length: 8}, (_, column) => (row >> 1 === column % 4 ? singularValues[column % 4] : 0)),
    );
    const dense = tf.tensor2d(values);
    const kept = values.map((row) => row.map((value) => (value > 2 ? value : 0)));
    const {error, matrix} = await projected(dense, 2);
    expect(error).toBeCloseTo(Math.sqrt(4 * (1 + 4)), 12);
    expectWithin('matrix', await valuesOf(matrix), kept.flat(), 0);
    const imaginary = await projected({real: tf.zerosLike(dense), imag: dense}, 2);
    expect(imaginary.error).toBeCloseTo(error, 12);
    expectWithin('imaginary matrix', await valuesOf(imaginary.matrix), [...Array(64).fill(0), ...kept.flat()], 0);
  });

  it('finds Monarch matrices again', async () => {
    const dense = monarchToDense(tf.randomNormal([4, 4, 6]), tf.randomNormal([4, 5, 4]));
    const {error, matrix} = await projected(dense, 4);
    expect(error).toBeLessThan(1e-5);
    expectWithin('matrix', await valuesOf(matrix), await valuesOf(dense), 0);
  });

  it('of the DFT, with its columns in another order, is exact', async () => {
    const strided = Array.from({length: 16}, (_, i) => (i % 4) * 4 + Math.floor(i / 4));
    const dense = fourier(16, strided);
    const {error, matrix} = await projected(dense, 4);
    expect(error).toBeLessThan(1e-5);
    expectWithin('matrix', await valuesOf(matrix), await valuesOf(dense), 1e-6);
  });

  it('goes by singular values that are equal, or 0', async () => {
    // A part of the DFT in its usual order has four equal ones, of which one is kept: three quarters of the 256 are lost.
    const dft = await projected(
      fourier(
        16,
        Array.from({length: 16}, (_, i) => i),
      ),
      4,
    );
    expect(dft.error ** 2).toBeCloseTo(192, 4);
    const identity: tf.Tensor2D = tf.eye(16);
    const pair = await projected({real: identity, imag: tf.zerosLike(identity)}, 2);
    expect(pair.error).toBeCloseTo((await projected(identity, 2)).error, 12);
    for (const zero of [tf.zeros([8, 8]), {real: tf.zeros([8, 8]), imag: tf.zeros([8, 8])}]) {
      const {error, matrix} = await projected(zero, 2);
      expect(error).toBe(0);
      expect((await valuesOf(matrix)).every((value) => value === 0)).toBeTrue();
    }
  });

  it('takes complex64 tensors and gives them back', async () => {
    const pair = randomPair([8, 8]);
    const [{w1, w2}, expected] = await Promise.all([
      monarchProject(tf.complex(pair.real, pair.imag), {blocks: 2}),
      monarchProject(pair, {blocks: 2}),
    ]);
    expect([w1.dtype, w2.dtype]).toEqual(['complex64', 'complex64']);
    expect(await w1.data()).toEqual(await tf.complex(expected.w1.real, expected.w1.imag).data());
  });

  it('says what is wrong with its arguments', async () => {
    await expectAsync(monarchProject(tf.zeros([10, 12]), {blocks: 4})).toBeRejectedWithError(
      'monarchProject: dense must be [m, n] with m and n multiples of blocks, a positive integer; got dense [10, 12], blocks 4.',
    );
    await expectAsync(monarchProject(tf.zeros([4, 4, 4]), {blocks: 2})).toBeRejectedWithError(
      /got dense \[4, 4, 4\], /,
    );
    await expectAsync(monarchProject(tf.zeros([4, 4]), {blocks: 0.5})).toBeRejectedWithError(/blocks 0.5\.$/);
    await expectAsync(monarchProject(tf.fill([4, 4], Number.NaN), {blocks: 2})).toBeRejectedWithError(
      'monarchProject: dense has values that are not finite.',
    );
  });
});
