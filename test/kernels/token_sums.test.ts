/** Sums by token on every backend. */
import * as tf from '@tensorflow/tfjs-core';
import {tokenSums} from '../../src/ops/token_sums.js';
import {describeOnBackends} from '../backends.js';
import {expectTokenSumsRight, tokenSumsCases} from '../token_sums_results.js';

describeOnBackends('Sums by token', () => {
  for (const tokenSumsCase of tokenSumsCases) {
    it(`agree with float64: ${JSON.stringify(tokenSumsCase)}`, () => expectTokenSumsRight(tokenSumsCase));
  }

  it('are the same bit for bit each time', async () => {
    const x = tf.randomNormal([3000, 5]) as tf.Tensor2D;
    const tokens = tf.cast(tf.randomUniform([3000], 0, 9), 'int32') as tf.Tensor1D;
    expect(await tokenSums(x, tokens, 9).data()).toEqual(await tokenSums(x, tokens, 9).data());
  });

  it('of no rows are zeros', async () => {
    const sums = tokenSums(tf.zeros([0, 3]), tf.zeros([0], 'int32'), 2);
    expect(Array.from(await sums.data())).toEqual([0, 0, 0, 0, 0, 0]);
  });
});
