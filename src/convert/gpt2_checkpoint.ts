/** `loadGpt2`: the weights of a GPT-2 checkpoint in the model `gpt`. */
import {reshape, split, type Tensor, tensor, tidy, transpose} from '@tensorflow/tfjs-core';
import type {LayerVariable} from '@tensorflow/tfjs-layers';
import {buildGpt, type GptArgs, type LanguageModel} from '../layers/gpt.js';
import {type Gpt2Config, readGpt2Config} from './gpt2_config.js';
import {readSafetensors, type SafetensorsTensor} from './safetensors.js';

/** Options of {@link loadGpt2}: those of `gpt` that do not depend on the checkpoint. */
export type LoadGpt2Options = Pick<
  GptArgs,
  'attention' | 'attentionPrecision' | 'attentionLayout' | 'dropout' | 'loraRank' | 'loraAlpha' | 'seed'
>;

const OPTION_NAMES: (keyof LoadGpt2Options)[] = [
  'attention',
  'attentionPrecision',
  'attentionLayout',
  'dropout',
  'loraRank',
  'loraAlpha',
  'seed',
];

/**
 * The model of a GPT-2 checkpoint in Hugging Face's layout, as in
 * `tf.loadGpt2(await tf.gpt2Files('openai-community/gpt2'))`: `gpt` with the architecture of config.json and the weights of
 * model.safetensors. Names in the latter may start with `transformer.`; the masks that old checkpoints store are ignored.
 * The logits share the token embedding unless there is an lm_head.weight that differs from it, or that
 * config.tie_word_embeddings keeps apart.
 *
 * The dropout of config.json is left out unless `options.dropout` asks for some.
 *
 * Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
 *
 * ```js
 * const config = {model_type: 'gpt2', n_layer: 1, n_head: 2, n_embd: 4, n_positions: 8, vocab_size: 10};
 * const shapes = {
 *   'wte.weight': [10, 4], 'wpe.weight': [8, 4], 'ln_f.weight': [4], 'ln_f.bias': [4],
 *   'h.0.ln_1.weight': [4], 'h.0.ln_1.bias': [4], 'h.0.ln_2.weight': [4], 'h.0.ln_2.bias': [4],
 *   'h.0.attn.c_attn.weight': [4, 12], 'h.0.attn.c_attn.bias': [12],
 *   'h.0.attn.c_proj.weight': [4, 4], 'h.0.attn.c_proj.bias': [4],
 *   'h.0.mlp.c_fc.weight': [4, 16], 'h.0.mlp.c_fc.bias': [16],
 *   'h.0.mlp.c_proj.weight': [16, 4], 'h.0.mlp.c_proj.bias': [4],
 * };
 * const header = {};
 * let end = 0;
 * for (const [name, shape] of Object.entries(shapes)) {
 *   header[name] = {dtype: 'F32', shape, data_offsets: [end, (end += 4 * tf.util.sizeFromShape(shape))]};
 * }
 * const json = new TextEncoder().encode(JSON.stringify(header));
 * const weights = new Uint8Array(8 + json.length + end);
 * weights.set(new Uint8Array(new BigUint64Array([BigInt(json.length)]).buffer));
 * weights.set(json, 8);
 * const model = tf.loadGpt2({config, weights});
 * console.log(model.predict(tf.zeros([1, 5], 'int32')).shape); // [1, 5, 10]
 * model.dispose();
 * ```
 *
 * @param files config.json, parsed, and model.safetensors; the model may go on reading the latter, so leave it unchanged.
 * @param options see {@link LoadGpt2Options}.
 * @returns the model, as `gpt` returns it.
 * @throws Error that names the field of config.json that is not supported, or the tensor that is missing or too many, or
 *     whose shape does not fit.
 */
export function loadGpt2(
  {config, weights}: {config: object; weights: ArrayBuffer | ArrayBufferView},
  options: LoadGpt2Options = {},
): LanguageModel {
  assertOptions(options);
  const architecture = readGpt2Config(config);
  const checkpoint = byPlainName(readSafetensors(weights).tensors);
  const tied = isTied(architecture, checkpoint);
  const destinations = destinationsOf(architecture, tied);
  assertTensors(checkpoint, destinations);
  const {layers, heads, width, hiddenWidth, contextLength, vocabSize, epsilon} = architecture;
  const args = {layers, heads, width, mlpUnits: hiddenWidth, contextLength, vocabSize, epsilon, tied};
  const model = buildGpt({...options, ...args, activation: 'gelu_new'}, true);
  const variables = new Map(model.weights.map((variable) => [variable.originalName, variable]));
  for (const [name, {to, transposed}] of Object.entries(destinations)) {
    const parts = to.map((weight) => variables.get(weight) as LayerVariable);
    write(checkpoint.get(name) as SafetensorsTensor, parts, transposed);
  }
  return model;
}

function assertOptions(options: object): void {
  for (const name of Object.keys(options)) {
    if ((OPTION_NAMES as string[]).includes(name)) continue;
    throw new Error(
      `loadGpt2: options may be ${OPTION_NAMES.join(', ')}, got ${name}: the rest is as the checkpoint has it.`,
    );
  }
}

type Checkpoint = ReadonlyMap<string, SafetensorsTensor>;

function byPlainName(tensors: Checkpoint): Checkpoint {
  return new Map(Array.from(tensors, ([name, tensor]) => [name.replace(/^transformer\./, ''), tensor]));
}

/** A head that is there, but equal to the embedding, is a copy of it. */
function isTied({tied}: Gpt2Config, checkpoint: Checkpoint): boolean {
  const [head, embedding] = ['lm_head.weight', 'wte.weight'].map((name) => checkpoint.get(name));
  if (!tied || !head || !embedding) return tied;
  const [a, b] = [head.read(), embedding.read()];
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** Where a tensor of the checkpoint goes. */
interface Destination {
  /** Its shape in the checkpoint. */
  shape: number[];
  /** Weights of the model, to which it is dealt along its last axis. */
  to: string[];
  /** Whether it goes there transposed. */
  transposed?: boolean;
}

/** By the names of the checkpoint's tensors. GPT-2 stores kernels as [in, out], as the model does. */
function destinationsOf(
  {layers, width, hiddenWidth, contextLength, vocabSize}: Gpt2Config,
  tied: boolean,
): Record<string, Destination> {
  const destinations: Record<string, Destination> = {
    'wte.weight': {shape: [vocabSize, width], to: ['token_embedding/embeddings']},
    'wpe.weight': {shape: [contextLength, width], to: ['position_embedding/embeddings']},
  };
  const putNorm = (name: string, layer: string) => {
    destinations[`${name}.weight`] = {shape: [width], to: [`${layer}/gamma`]};
    destinations[`${name}.bias`] = {shape: [width], to: [`${layer}/beta`]};
  };
  const putDense = (name: string, shape: [number, number], ...to: string[]) => {
    destinations[`${name}.weight`] = {shape, to: to.map((layer) => `${layer}/kernel`)};
    destinations[`${name}.bias`] = {shape: [shape[1]], to: to.map((layer) => `${layer}/bias`)};
  };
  for (let n = 0; n < layers; n++) {
    const [from, block] = [`h.${n}`, `block_${n}`];
    const attention = `${block}/attention`;
    putNorm(`${from}.ln_1`, `${block}/attention_norm`);
    const queryKeyValue = ['query', 'key', 'value'].map((name) => `${attention}/${name}`);
    putDense(`${from}.attn.c_attn`, [width, 3 * width], ...queryKeyValue);
    putDense(`${from}.attn.c_proj`, [width, width], `${attention}/attention_output`);
    putNorm(`${from}.ln_2`, `${block}/mlp_norm`);
    putDense(`${from}.mlp.c_fc`, [width, hiddenWidth], `${block}/mlp_in`);
    putDense(`${from}.mlp.c_proj`, [hiddenWidth, width], `${block}/mlp_out`);
  }
  putNorm('ln_f', 'final_norm');
  if (!tied) destinations['lm_head.weight'] = {shape: [vocabSize, width], to: ['head/kernel'], transposed: true};
  return destinations;
}

/** Causal masks, which old checkpoints store. */
const MASK = /^h\.\d+\.attn\.(bias|masked_bias)$/;

function assertTensors(checkpoint: Checkpoint, destinations: Record<string, Destination>): void {
  for (const [name, {shape}] of Object.entries(destinations)) {
    const given = checkpoint.get(name);
    if (!given) throw new Error(`loadGpt2: the checkpoint lacks the tensor ${name} [${shape}].`);
    if (`${given.shape}` !== `${shape}`) {
      throw new Error(`loadGpt2: by config.json tensor ${name} must be [${shape}], got [${given.shape}].`);
    }
  }
  for (const name of checkpoint.keys()) {
    // Heads for other tasks do not matter; another tensor in a block would change what the block computes.
    if (!name.startsWith('h.') || name in destinations || MASK.test(name)) continue;
    throw new Error(
      `loadGpt2: the checkpoint has a tensor ${name}, of which a GPT-2 of its config.json knows nothing.`,
    );
  }
}

function write(source: SafetensorsTensor, parts: LayerVariable[], transposed = false): void {
  tidy(() => {
    const stored: Tensor = tensor(source.read(), source.shape, 'float32');
    const value = transposed ? transpose(stored) : stored;
    const values = parts.length === 1 ? [value] : split(value, parts.length, -1);
    for (const [i, part] of parts.entries()) part.write(reshape(values[i], part.shape as number[]));
  });
}
