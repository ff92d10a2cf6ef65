import {float16Bits, float16Files} from '../../scripts/pretrain/float16_files.js';
import * as tf from '../../src/tf.js';
import {describeOnBackends} from '../backends.js';

const FINITE = 0x7c00;

/** What tfjs reads from float16 weights. */
function decode(bits: Uint16Array): Float32Array {
  const spec = {name: 'w', shape: [bits.length], dtype: 'float32' as const, quantization: {dtype: 'float16' as const}};
  const {w} = tf.io.decodeWeights(bits.buffer as ArrayBuffer, [spec]);
  const values = w.dataSync<'float32'>().slice();
  w.dispose();
  return values;
}

describeOnBackends('float16 files', () => {
  it('encode every float16 as tfjs decodes it', () => {
    const positive = Uint16Array.from({length: FINITE}, (_, i) => i);
    const all = Uint16Array.from([...positive, ...positive.map((bits) => bits | 0x8000)]);
    expect(Array.from(decode(all), float16Bits)).toEqual(Array.from(all));
  });

  it('round to the nearest float16, and halfway to the even one', () => {
    const neighbours = decode(Uint16Array.from({length: FINITE}, (_, i) => i));
    const wrong = [...neighbours.keys()].slice(1).filter((i) => {
      const [below, above] = [neighbours[i - 1], neighbours[i]];
      const middle = (below + above) / 2;
      const step = (above - below) / 1024;
      const rounded = [middle - step, middle, middle + step].map(float16Bits);
      return rounded[0] !== i - 1 || rounded[1] !== i - (i % 2) || rounded[2] !== i;
    });
    expect(wrong).toEqual([]);
    expect(float16Bits(65519)).toBe(FINITE - 1);
  });

  it('refuse weights that float16 cannot hold', () => {
    for (const value of [65520, -Infinity, Number.NaN])
      expect(() => float16Bits(value)).toThrowError(/no finite float16/);
  });

  it('are read by loadLayersModel, with the rounded weights and the metadata', async () => {
    const model = tf.sequential({
      layers: [tf.layers.dense({units: 3, inputShape: [5], biasInitializer: 'randomNormal'})],
    });
    model.setUserDefinedMetadata({tokenizer: 'bytes'});
    const files: Record<string, string | ArrayBuffer> = {};
    await model.save(
      float16Files(async (name, body) => {
        files[name] = body;
      }),
    );
    const json = JSON.parse(files['model.json'] as string);
    const weightData = files['weights.bin'] as ArrayBuffer;
    expect(weightData.byteLength).toBe(2 * model.countParams());
    const weightSpecs = json.weightsManifest[0].weights;
    const loaded = await tf.loadLayersModel({load: async () => ({...json, weightSpecs, weightData})});
    expect(loaded.getUserDefinedMetadata()).toEqual({tokenizer: 'bytes'});
    for (const [i, weight] of model.getWeights().entries()) {
      const expected = decode(Uint16Array.from(await weight.data<'float32'>(), float16Bits));
      expect(await loaded.getWeights()[i].data()).toEqual(expected);
    }
    model.dispose();
    loaded.dispose();
  });
});
