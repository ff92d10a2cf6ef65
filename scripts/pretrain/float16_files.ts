/** Saves a model of tfjs with its weights rounded to float16, in files that `tf.loadLayersModel` reads. */
import * as tf from '@tensorflow/tfjs-core';

export const MODEL_FILE = 'model.json';
export const WEIGHTS_FILE = 'weights.bin';

/** For `model.save`; `write` gets the model's two files. */
export function float16Files(write: (name: string, body: string | ArrayBuffer) => Promise<void>): tf.io.IOHandler {
  return tf.io.withSaveHandler(async (artifacts) => {
    const {weightSpecs = [], weightData = [], ...model} = artifacts;
    const {specs, bytes} = quantize(weightSpecs, tf.io.CompositeArrayBuffer.join(weightData));
    const weightsManifest = [{paths: [WEIGHTS_FILE], weights: specs}];
    await write(WEIGHTS_FILE, bytes);
    await write(MODEL_FILE, JSON.stringify({...model, weightsManifest}));
    return {
      modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON', weightDataBytes: bytes.byteLength},
    };
  });
}

function quantize(specs: tf.io.WeightsManifestEntry[], data: ArrayBuffer) {
  const other = specs.find(({dtype}) => dtype !== 'float32');
  if (other) throw new Error(`Weight '${other.name}' is ${other.dtype}; only float32 can become float16.`);
  const encoded = Uint16Array.from(new Float32Array(data), float16Bits);
  const quantized = specs.map((spec) => ({...spec, quantization: {dtype: 'float16' as const}}));
  return {specs: quantized, bytes: encoded.buffer};
}

const float = new Float32Array(1);
const bitsOfFloat = new Uint32Array(float.buffer);

/** From here on values are nearer to infinity than to the largest float16. */
const OVERFLOW = 65520;
const SMALLEST_NORMAL = 2 ** -14;
/** How much float32 adds to an exponent beyond what float16 does, in place. */
const BIAS_DIFFERENCE = (127 - 15) << 23;

/** The bits of the nearest float16, of two equally near ones the even one. */
export function float16Bits(value: number): number {
  const magnitude = Math.abs(value);
  // Not-a-number is not below it either.
  if (!(magnitude < OVERFLOW)) throw new Error(`The weight ${value} has no finite float16.`);
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  if (magnitude < SMALLEST_NORMAL) {
    // The float32 numbers from 1/2 on lie as far apart as float16's subnormal ones, so the sum is rounded as they are.
    float[0] = magnitude + 0.5;
    return sign | (bitsOfFloat[0] & 0x7fffff);
  }
  float[0] = magnitude;
  const bits = bitsOfFloat[0];
  const even = (bits >>> 13) & 1;
  return sign | ((bits - BIAS_DIFFERENCE + 0xfff + even) >>> 13);
}
