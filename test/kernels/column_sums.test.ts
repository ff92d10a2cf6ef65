/** Sums of columns on every backend: against float64, and the same every time. */
import * as tf from '@tensorflow/tfjs-core';
import {columnSums} from '../../src/ops/column_sums.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {describeInNarrowTextures} from '../narrow_textures.js';

const shapes = [
  [1, 1],
  [3, 5],
  [8, 4],
  [257, 3],
  [256, 6],
  [511, 130],
  [2049, 36],
  [70_001, 1],
  [2, 3, 4],
  [5, 3, 7],
  [6],
];

async function expectSumsRight(shape: number[]): Promise<void> {
  const x = tf.randomNormal(shape, 0, 1, 'float32', 1);
  const values = await x.data();
  const sums = new Float64Array(shape[shape.length - 1]);
  values.forEach((value, i) => {
    sums[i % sums.length] += value;
  });
  // A sum of so many values is about as large as their number's root, and a few of its additions round to that.
  const allowed = 10 * Math.sqrt(values.length / sums.length) * 2 ** -24;
  expectWithin(`sums of [${shape}]`, await columnSums(x).data(), sums, allowed);
}

describeOnBackends('Sums of columns', () => {
  it('agree with float64', async () => {
    for (const shape of shapes) await expectSumsRight(shape);
  });

  it('are the same bit for bit each time', async () => {
    const x = tf.randomNormal([3001, 33]);
    expect(await columnSums(x).data()).toEqual(await columnSums(x).data());
  });

  it('of no rows are zeros', async () => {
    expect(Array.from(await columnSums(tf.zeros([0, 3])).data())).toEqual([0, 0, 0]);
    expect(columnSums(tf.zeros([3, 0])).shape).toEqual([0]);
  });
});

describeInNarrowTextures('Sums of columns', 64, () => {
  it('find their way', async () => {
    for (const shape of [
      [301, 7],
      [77, 150],
      [600, 5],
    ]) {
      await expectSumsRight(shape);
    }
  });
});
