/** The orders in which values go to peers and come back, against tf.transpose. */
import * as tf from '@tensorflow/tfjs-core';
import {headOfBSHD, toBSHD} from '../../bench/peers/head_order.js';
import {restoreBackendAfterwards} from '../backends.js';

const sizes = {batch: 2, heads: 3, sequence: 5, depth: 4};
const values = Float32Array.from({length: 2 * 3 * 5 * 4}, (_, i) => i);

describe('The order of heads for peers', () => {
  restoreBackendAfterwards();

  it('is that of tf.transpose from [B, H, S, D] to [B, S, H, D]', async () => {
    await tf.setBackend('cpu');
    const transposed = tf.tidy(() => tf.transpose(tf.tensor4d(values, [2, 3, 5, 4]), [0, 2, 1, 3]).dataSync());
    expect(Array.from(toBSHD(values, sizes))).toEqual(Array.from(transposed));
  });

  it('leads back to each head', () => {
    const reordered = toBSHD(values, sizes);
    for (let place = 0; place < 6; place++) {
      expect(headOfBSHD(reordered, sizes, place)).toEqual(values.subarray(place * 20, (place + 1) * 20));
    }
  });
});
