/** Keeps a training with its model: in IndexedDB, as files to download, and back. */
import {get, set} from 'idb-keyval';
import * as tf from '../src/tf.js';
import {type ModelFiles, sizesOf} from './language_model.js';
import {Problem} from './problem.js';
import type {Settings} from './settings_form.js';
import type {TextSource} from './text_data.js';
import type {OptimizerState, Progress} from './training.js';

/** All that it takes to go on where a training was; plain data. */
export interface SavedRun {
  format: typeof FORMAT;
  model: ModelFiles;
  /** Missing before the first step and in downloaded files: Adam starts anew then. */
  optimizer?: OptimizerState;
  text: TextSource;
  settings: Settings;
  progress: Progress;
}

export const FORMAT = 1;

/** 'latest' is kept of itself as training goes on, 'saved' when the person asks for it. */
export type Slot = 'latest' | 'saved';

export async function keepRun(slot: Slot, run: SavedRun): Promise<void> {
  await set(slot, run);
}

/** Undefined where none was kept, or only one of another version of the page. */
export async function keptRun(slot: Slot): Promise<SavedRun | undefined> {
  const run = await get<SavedRun>(slot);
  return run?.format === FORMAT ? run : undefined;
}

const NAME = 'gpt-fine-tuned';
const WEIGHTS_FILE = `${NAME}.weights.bin`;

/** In a saved model's metadata: what of a run is not the model. */
type Metadata = {demo: Omit<SavedRun, 'model' | 'optimizer'> & Pick<ModelFiles, 'name' | 'tokenizer'>};

/** Two files that `tf.loadLayersModel` reads too. */
export function downloadRun({model, optimizer: _, ...run}: SavedRun): void {
  const {modelTopology, weightSpecs, weightData} = model.artifacts;
  const userDefinedMetadata: Metadata = {demo: {...run, name: model.name, tokenizer: model.tokenizer}};
  const weightsManifest = [{paths: [WEIGHTS_FILE], weights: weightSpecs}];
  const json = {format: 'layers-model', modelTopology, weightsManifest, userDefinedMetadata};
  download(`${NAME}.json`, new Blob([JSON.stringify(json)], {type: 'application/json'}));
  download(WEIGHTS_FILE, new Blob([weightData]));
}

export function download(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  // The browser has to have begun by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/**
 * What `downloadRun` made. @throws Problem that says which file is missing or wrong.
 *
 * @param files in any order.
 */
export async function uploadedRun(files: readonly File[]): Promise<SavedRun> {
  const json = files.find(({name}) => name.endsWith('.json'));
  const weights = files.find(({name}) => name.endsWith('.bin'));
  if (!json || !weights) {
    throw new Problem('Choose both files of a saved model together: the one that ends in .json and the one in .bin.');
  }
  const {modelTopology, weightsManifest, userDefinedMetadata} = await parsed(json);
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const weightData = await weights.arrayBuffer();
  const demo = (userDefinedMetadata as Metadata | undefined)?.demo;
  if (demo?.format !== FORMAT) throw notOurs(json);
  const bytes = weightSpecs.reduce((sum, {shape, quantization}) => {
    return sum + tf.util.sizeFromShape(shape) * (quantization ? 2 : 4);
  }, 0);
  if (bytes !== weightData.byteLength) {
    throw new Problem(
      `“${weights.name}” does not belong to “${json.name}”. Choose the two files that were downloaded together.`,
    );
  }
  const {name, tokenizer, ...run} = demo;
  const model: ModelFiles = {name, tokenizer, artifacts: {modelTopology, weightSpecs, weightData}};
  sizesOf(model.artifacts);
  return {...run, model};
}

async function parsed(file: File) {
  try {
    const json = JSON.parse(await file.text()) as tf.io.ModelJSON;
    if (typeof json.modelTopology === 'object' && Array.isArray(json.weightsManifest)) {
      return {...json, modelTopology: json.modelTopology as object};
    }
  } catch {
    // Said below.
  }
  throw notOurs(file);
}

function notOurs(file: File): Problem {
  return new Problem(`“${file.name}” is no model that this page saved. Choose the files that Download gave.`);
}
