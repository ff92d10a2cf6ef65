/** `tfjs-flash/tf` is all of TensorFlow.js and the ops of this package. */
import * as tfjs from '@tensorflow/tfjs';
import * as flash from '../../src/index.js';
import * as tf from '../../src/tf.js';

const [tfjsExports, flashExports, exports] = [tfjs, flash, tf].map((names): Record<string, unknown> => ({...names}));

describe('The drop-in namespace', () => {
  it('has everything of @tensorflow/tfjs, unchanged', () => {
    expect(Object.keys(tfjsExports).length).toBeGreaterThan(300);
    for (const [name, value] of Object.entries(tfjsExports)) expect(exports[name]).withContext(name).toBe(value);
  });

  it('has the ops of this package', () => {
    for (const [name, value] of Object.entries(flashExports)) expect(exports[name]).withContext(name).toBe(value);
  });

  it('hides nothing of tfjs behind a name of this package', () => {
    expect(Object.keys(flashExports).filter((name) => name in tfjsExports)).toEqual([]);
  });
});
