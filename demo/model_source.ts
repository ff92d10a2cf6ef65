/** Where models come from: the one that lies beside the page, a new one, or a GPT-2 checkpoint. */
import * as tf from '../src/tf.js';
import {formatBytes} from './dom.js';
import {type Artifacts, artifactsOf, type ModelFiles} from './language_model.js';
import {Problem, reasonOf} from './problem.js';

/** Sizes of new models. */
export const newSizes = {
  tiny: {layers: 1, heads: 2, width: 64},
  small: {layers: 2, heads: 4, width: 128},
  medium: {layers: 4, heads: 4, width: 256},
} as const;
export type NewSize = keyof typeof newSizes;

export type ProgressListener = (sentence: string) => void;

const PRETRAINED_FOLDER = 'gpt/';
const BYTES = 256;

/** What the person chose. */
export interface ModelChoice {
  source: 'pretrained' | 'new' | 'gpt2' | 'tuned';
  size: NewSize;
  /** The context of a new model. */
  context: number;
  /** A model's id, a URL or files; see `tf.gpt2Files`. */
  gpt2: string | File[];
}

/** The model that was loaded last, and what from. */
let loaded: {key: string; files: ModelFiles} | undefined;

/** Loads or makes a model, unless it is the one that was loaded last. */
export async function chosenModel(choice: ModelChoice, onProgress: ProgressListener): Promise<ModelFiles> {
  const key = keyOf(choice);
  if (loaded?.key !== key) {
    loaded = undefined;
    loaded = {key, files: await load(choice, onProgress)};
  }
  return loaded.files;
}

function keyOf({source, size, context, gpt2}: ModelChoice): string {
  if (source === 'pretrained') return source;
  if (source === 'new') return `${size} ${context}`;
  return typeof gpt2 === 'string'
    ? gpt2
    : gpt2.map(({name, size, lastModified}) => `${name} ${size} ${lastModified}`).join();
}

function load({source, size, context, gpt2}: ModelChoice, onProgress: ProgressListener): Promise<ModelFiles> {
  if (source === 'new') return newModel(size, context);
  return source === 'gpt2' ? gpt2Model(gpt2, onProgress) : pretrainedModel(onProgress);
}

/** The byte-level GPT that lies beside the page. */
async function pretrainedModel(onProgress: ProgressListener): Promise<ModelFiles> {
  onProgress('Loading the pretrained GPT…');
  const json = await (await fetchFile('model.json')).json().catch(() => {
    throw missing;
  });
  const {modelTopology, weightsManifest} = json as tf.io.ModelJSON;
  const parts = await Promise.all(
    weightsManifest.flatMap(({paths}) => paths).map(async (path) => (await fetchFile(path)).arrayBuffer()),
  );
  const artifacts: Artifacts = {
    modelTopology: modelTopology as object,
    weightSpecs: weightsManifest.flatMap(({weights}) => weights),
    weightData: tf.io.CompositeArrayBuffer.join(parts),
  };
  return {name: 'Pretrained GPT', artifacts, tokenizer: {kind: 'bytes'}};
}

const missing = new Problem(
  'The pretrained model cannot be loaded. Check the connection and reload the page, or choose a new model.',
);

async function fetchFile(name: string): Promise<Response> {
  const response = await fetch(PRETRAINED_FOLDER + name).catch(() => undefined);
  if (!response?.ok) throw missing;
  return response;
}

/** A byte-level GPT with random weights. */
async function newModel(size: NewSize, context: number): Promise<ModelFiles> {
  const sizes = {...newSizes[size], contextLength: context, vocabSize: BYTES};
  const model = tf.gpt({...sizes, position: 'rotary', seed: 1});
  const artifacts = await artifactsOf(model);
  model.dispose();
  return {name: `New ${size} GPT`, artifacts, tokenizer: {kind: 'bytes'}};
}

async function gpt2Model(source: string | File[], onProgress: ProgressListener): Promise<ModelFiles> {
  if (source.length === 0) {
    throw new Problem('Name a GPT-2 checkpoint, by its id on Hugging Face or its URL, or choose its files.');
  }
  const onFile = ({file, loadedBytes, totalBytes}: tf.FileProgress) =>
    onProgress(`Loading ${file}: ${formatBytes(loadedBytes)}${totalBytes ? ` of ${formatBytes(totalBytes)}` : ''}…`);
  try {
    const {tokenizer, tokenizerConfig, ...files} = await tf.gpt2Files(source, {onProgress: onFile});
    onProgress('Unpacking the checkpoint…');
    const model = tf.loadGpt2(files);
    const artifacts = await artifactsOf(model);
    model.dispose();
    const name = typeof source === 'string' ? source : 'GPT-2 from files';
    return {name, artifacts, tokenizer: {kind: 'gpt2', tokenizer, tokenizerConfig}};
  } catch (error) {
    const reason = reasonOf(error).replace(/^(gpt2Files|loadGpt2|readSafetensors): /, '');
    throw new Problem(
      `This checkpoint cannot be loaded: ${reason} ` +
        'It takes config.json, model.safetensors and tokenizer.json (or vocab.json and merges.txt).',
    );
  }
}
