/** flashMultiHeadAttention on every backend. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {flashMultiHeadAttention} from '../../src/layers/index.js';
import {describeOnBackends} from '../backends.js';

describeOnBackends('flashMultiHeadAttention smoke', () => {
  it('runs', async () => {
    const layer = flashMultiHeadAttention({
      numHeads: 4,
      numKvHeads: 2,
      keyDim: 4,
      rotary: true,
      causal: true,
      loraRank: 2,
      inputShape: [6, 8],
    });
    const model = tfl.sequential({layers: [layer, tfl.layers.dense({units: 3})]});
    console.log(layer.weights.map((w) => `${w.originalName} ${w.shape}`).join('\n'));
    model.compile({optimizer: 'adam', loss: 'meanSquaredError'});
    const {history} = await model.fit(tf.randomNormal([4, 6, 8]), tf.randomNormal([4, 6, 3]), {epochs: 3, verbose: 0});
    console.log(history.loss);
    layer.mergeLora();
    console.log(layer.weights.map((w) => `${w.originalName} ${w.shape}`).join('\n'), JSON.stringify(layer.getConfig()));
    model.optimizer.dispose();
    model.dispose();
  });
});
