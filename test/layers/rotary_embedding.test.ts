/** Rotary position embedding on every backend, against float64, and the table that it keeps. */
import * as tf from '@tensorflow/tfjs-core';
import {RotaryEmbedding} from '../../src/layers/rotary_embedding.js';
import {describeOnBackends} from '../backends.js';
import {expectRotaryRight, rotaryCases} from '../rotary_results.js';

describeOnBackends('Rotary position embedding agrees with float64, forward and backward', () => {
  for (const rotaryCase of rotaryCases) {
    it(JSON.stringify(rotaryCase), () => expectRotaryRight(rotaryCase));
  }
});

describeOnBackends('Rotary position embedding', () => {
  it('runs one kernel, on a table that is made once for the positions so far', async () => {
    const rotary = new RotaryEmbedding(8, 10000);
    const x = tf.ones<tf.Rank.R4>([1, 4, 2, 8]);
    const before = tf.memory().numTensors;
    rotary.rotate(x);
    expect(tf.memory().numTensors).toBe(before + 2);
    const {kernels, newTensors} = await tf.profile(() => rotary.rotate(x));
    expect(kernels.map(({name}) => name)).toEqual(['RotaryEmbedding']);
    expect(newTensors).toBe(1);
    // Further positions take a table of twice as many.
    rotary.rotate(x, 2);
    const later = await tf.profile(() => rotary.rotate(x, 4));
    expect(later.newTensors).toBe(1);
    rotary.dispose();
    expect(tf.memory().numTensors).toBe(before + 4);
  });

  it('gives nothing of no tokens', () => {
    const rotary = new RotaryEmbedding(8, 10000);
    const x = tf.zeros<tf.Rank.R4>([0, 4, 2, 8]);
    expect(rotary.rotate(x).shape).toEqual([0, 4, 2, 8]);
    expect(tf.grad((t) => rotary.rotate(t as tf.Tensor4D))(x).shape).toEqual([0, 4, 2, 8]);
    rotary.dispose();
  });
});
