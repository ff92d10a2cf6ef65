/** Permutations as butterflies on every backend: exact. */
import * as tf from '@tensorflow/tfjs-core';
import {applyTransform, transforms} from '../../src/index.js';
import {describeOnBackends} from '../backends.js';
import {randomOrder} from './direct_products.js';

const {bitReversal, permutationToButterfly} = transforms;

async function expectPermutes(permutation: number[]): Promise<void> {
  const x = Float32Array.from(permutation.keys()).map((value) => value + 1);
  const transform = permutationToButterfly(permutation);
  expect(transform.stages.map((stage) => !('indices' in stage) && stage.twiddleShape[1])).toEqual([2]);
  const y = applyTransform(x, transform);
  expect(Array.from(await y.data())).toEqual(permutation.map((from) => x[from]));
}

describeOnBackends('permutationToButterfly', () => {
  for (const n of [2, 4, 8, 16, 32, 64]) {
    it(`is exact for random permutations of ${n}`, async () => {
      for (const seed of [1, 2, 3]) await expectPermutes(randomOrder(n, seed));
    });
  }

  it('is exact for all permutations of 4, for the identity, for reversals and for bit reversal', async () => {
    const permutations = (rest: number[]): number[][] =>
      rest.length === 0
        ? [[]]
        : rest.flatMap((first) =>
            permutations(rest.filter((other) => other !== first)).map((others) => [first, ...others]),
          );
    for (const permutation of permutations([0, 1, 2, 3])) await expectPermutes(permutation);
    const indices = Array.from({length: 32}, (_, i) => i);
    await expectPermutes(indices);
    await expectPermutes([...indices].reverse());
    await expectPermutes(Array.from(bitReversal(32)));
  });

  it('is undone by its transpose', async () => {
    const transform = permutationToButterfly(randomOrder(16));
    const x = tf.range(0, 16);
    const y = applyTransform(applyTransform(x, transform), transforms.transposeTransform(transform));
    expect(await y.data()).toEqual(await x.data());
  });
});
