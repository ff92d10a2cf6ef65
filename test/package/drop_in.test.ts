/** `tfjs-flash/tf` is all of TensorFlow.js, and the ops and layers of this package. */
import * as tfjs from '@tensorflow/tfjs';
import * as flash from '../../src/index.js';
import * as flashLayers from '../../src/layers/index.js';
import * as tf from '../../src/tf.js';

const [tfjsExports, flashExports, exports] = [tfjs, {...flash, ...flashLayers}, tf].map(
  (names): Record<string, unknown> => ({...names}),
);

describe('The drop-in namespace', () => {
  it('has everything else of @tensorflow/tfjs, unchanged', () => {
    expect(Object.keys(tfjsExports).length).toBeGreaterThan(300);
    const {layers, loadLayersModel: _, ...others} = tfjsExports;
    for (const [name, value] of Object.entries(others)) expect(exports[name]).withContext(name).toBe(value);
    const {butterflyDense, flashMultiHeadAttention, fusedLayerNorm, kaleidoscopeDense, monarchDense} = flashLayers;
    const {pixelflyDense, positionEmbedding, tokenEmbedding, transformerBlock} = flashLayers;
    const dense = {butterflyDense, kaleidoscopeDense, monarchDense, pixelflyDense};
    const ofTransformers = {
      flashMultiHeadAttention,
      fusedLayerNorm,
      positionEmbedding,
      tokenEmbedding,
      transformerBlock,
    };
    const own = {...dense, ...ofTransformers};
    expect(tf.layers).toEqual({...(layers as typeof tfjs.layers), ...own});
  });

  it('has layers that are those of tfjs', () => {
    const layer: tf.layers.Layer = tf.layers.pixelflyDense({units: 8, density: 1});
    expect(layer).toBeInstanceOf(tfjs.layers.Layer);
    expect(layer).toBeInstanceOf(tf.PixelflyDense);
  });

  it('has the ops and layers of this package', () => {
    for (const [name, value] of Object.entries(flashExports)) expect(exports[name]).withContext(name).toBe(value);
  });

  it('hides nothing of tfjs behind a name of this package but loadLayersModel, which loads more', () => {
    const shared = Object.keys(flashExports).filter((name) => name in tfjsExports);
    expect(shared).toEqual(['loadLayersModel']);
  });
});
