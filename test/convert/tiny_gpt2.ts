/** A tiny GPT-2 checkpoint of random weights. */
import type {PlainWeights} from './plain_gpt2.js';
import {tinyVocab} from './tiny_tokenizer.js';
import {type TensorToWrite, writeSafetensors} from './write_safetensors.js';

/** config.json, as of a model fresh from Hugging Face but for its sizes. */
export const tinyConfig = {
  activation_function: 'gelu_new',
  architectures: ['GPT2LMHeadModel'],
  attn_pdrop: 0.1,
  bos_token_id: 266,
  embd_pdrop: 0.1,
  eos_token_id: 266,
  initializer_range: 0.02,
  layer_norm_epsilon: 1e-5,
  model_type: 'gpt2',
  n_ctx: 24,
  n_embd: 16,
  n_head: 2,
  n_layer: 2,
  n_positions: 24,
  resid_pdrop: 0.1,
  summary_first_dropout: 0.1,
  vocab_size: Object.keys(tinyVocab).length,
};

/** A checkpoint's tensors by their names without `transformer.`. */
export type TinyTensors = Record<string, {shape: number[]; values: Float32Array}>;

/** Tensors of random values that each of float32, float16 and bfloat16 holds exactly. */
export function tinyTensors({untied = false, hiddenWidth = 4 * tinyConfig.n_embd} = {}): TinyTensors {
  const {n_embd: width, n_layer: layers, n_positions: positions, vocab_size: vocabSize} = tinyConfig;
  const random = randomIntegers(1);
  const tensors: TinyTensors = {};
  const put = (name: string, shape: number[], mean = 0) => {
    const size = shape.reduce((product, axis) => product * axis, 1);
    tensors[name] = {shape, values: Float32Array.from({length: size}, () => mean + random(-64, 64) / 128)};
  };
  const putAffine = (name: string, weightShape: number[], mean?: number) => {
    put(`${name}.weight`, weightShape, mean);
    put(`${name}.bias`, weightShape.slice(-1));
  };
  put('wte.weight', [vocabSize, width]);
  put('wpe.weight', [positions, width]);
  for (let n = 0; n < layers; n++) {
    putAffine(`h.${n}.ln_1`, [width], 1);
    putAffine(`h.${n}.attn.c_attn`, [width, 3 * width]);
    putAffine(`h.${n}.attn.c_proj`, [width, width]);
    putAffine(`h.${n}.ln_2`, [width], 1);
    putAffine(`h.${n}.mlp.c_fc`, [width, hiddenWidth]);
    putAffine(`h.${n}.mlp.c_proj`, [hiddenWidth, width]);
  }
  putAffine('ln_f', [width], 1);
  if (untied) put('lm_head.weight', [vocabSize, width]);
  return tensors;
}

/** model.safetensors of these tensors, and the buffers that checkpoints of Hugging Face bring along. */
export function tinySafetensors(tensors: TinyTensors, {dtype = 'F32', prefix = ''} = {}): ArrayBuffer {
  const file: Record<string, TensorToWrite> = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    file[name.startsWith('lm_head.') ? name : prefix + name] = {dtype, ...tensor};
  }
  const {n_layer: layers, n_positions: positions} = tinyConfig;
  for (let n = 0; n < layers; n++) {
    const mask = new Uint8Array(positions ** 2);
    file[`${prefix}h.${n}.attn.bias`] = {dtype: 'BOOL', shape: [1, 1, positions, positions], values: mask};
    file[`${prefix}h.${n}.attn.masked_bias`] = {dtype: 'F32', shape: [], values: [-1e4]};
  }
  return writeSafetensors(file, {format: 'pt'});
}

/** The tensors as {@link PlainWeights}. */
export function plainWeightsOf(tensors: TinyTensors): PlainWeights {
  return Object.fromEntries(Object.entries(tensors).map(([name, {values}]) => [name, values]));
}

/** Integers from `least` to `most` of a linear congruential generator. */
function randomIntegers(seed: number): (least: number, most: number) => number {
  let state = seed;
  return (least, most) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return least + Math.floor((state / 2 ** 32) * (most - least + 1));
  };
}
