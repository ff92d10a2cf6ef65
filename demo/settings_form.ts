/** The form of settings: reads it, fills it, and shows the fields that fit the choices made so far. */
import type {BackendName, Offer} from './backend.js';
import {element, show} from './dom.js';
import type {AttentionKind, MlpKind, Variant} from './language_model.js';
import type {ModelChoice, NewSize} from './model_source.js';
import type {TrainingSettings} from './training.js';

export interface Settings extends TrainingSettings {
  source: ModelChoice['source'];
  size: NewSize;
  attention: AttentionKind;
  mlp: MlpKind;
  /** Undefined: full fine-tuning. */
  loraRank: number | undefined;
  backend: BackendName;
}

/** Learning rates that suit what is trained, until the person chooses one. */
const RATES = {pretrained: 5e-4, new: 3e-3, gpt2: 1e-4, tuned: 5e-4} as const;
const LORA_RATE = 2e-3;
/** What a GPU, or one that is a program on the processor, gets through in a few minutes. */
const PACE = {
  gpu: {context: 256, batch: 8, steps: 300, sampleLength: 120},
  software: {context: 32, batch: 2, steps: 20, sampleLength: 24},
} as const;

const form = element('settings', HTMLFormElement);
const select = (id: string) => element(id, HTMLSelectElement);
const input = (id: string) => element(id, HTMLInputElement);

export const settingsForm = {
  /** Chooses first values by what the browser offers, and follows the person's choices from then on. */
  start(offer: Offer): void {
    const {context, batch, steps, sampleLength} = PACE[offer.software ? 'software' : 'gpu'];
    input('context').valueAsNumber = context;
    input('batch').valueAsNumber = batch;
    input('steps').valueAsNumber = steps;
    input('sample-length').valueAsNumber = sampleLength;
    disableMissing(offer);
    for (const id of ['model', 'tuning']) select(id).addEventListener('change', suggestRate);
    form.addEventListener('change', showFitting);
    suggestRate();
    showFitting();
  },

  /**
   * Whether all fields that are used hold what they may; else the browser says at the first one what is wrong, as it does
   * when the form is submitted. Disabled fields are not looked at, so it is asked before a work begins.
   */
  check(): boolean {
    return form.reportValidity();
  },

  /** What a form that passes the check says. */
  read(): Settings {
    return {
      source: select('model').value as ModelChoice['source'],
      size: select('size').value as NewSize,
      attention: select('attention').value as AttentionKind,
      mlp: select('mlp').value as MlpKind,
      loraRank: select('tuning').value === 'lora' ? input('lora-rank').valueAsNumber : undefined,
      backend: select('backend').value as BackendName,
      context: input('context').valueAsNumber,
      batch: input('batch').valueAsNumber,
      learningRate: input('learning-rate').valueAsNumber,
      steps: input('steps').valueAsNumber,
      prompt: input('prompt').value,
      sampleLength: input('sample-length').valueAsNumber,
    };
  },

  /** Shows the settings of a run that was kept, on a backend that this browser has. */
  fill(settings: Settings): void {
    const {source, size, attention, mlp, loraRank, backend} = settings;
    select('model').value = source;
    select('size').value = size;
    select('attention').value = attention;
    select('mlp').value = mlp;
    select('tuning').value = loraRank === undefined ? 'full' : 'lora';
    if (loraRank !== undefined) input('lora-rank').valueAsNumber = loraRank;
    const option = select('backend').querySelector<HTMLOptionElement>(`option[value="${backend}"]`);
    if (option && !option.disabled) select('backend').value = backend;
    input('context').valueAsNumber = settings.context;
    input('batch').valueAsNumber = settings.batch;
    input('learning-rate').valueAsNumber = settings.learningRate;
    input('steps').valueAsNumber = settings.steps;
    input('prompt').value = settings.prompt;
    input('sample-length').valueAsNumber = settings.sampleLength;
    showFitting();
  },

  /** What opens a model as the form says. */
  variantOf({attention, mlp, loraRank, context}: Settings): Variant {
    return {attention, mlp, loraRank, context};
  },

  /** Offers the fine-tuned model as a source. */
  offerTuned(label: string): void {
    const option = element('tuned-option', HTMLOptionElement);
    option.hidden = option.disabled = false;
    option.textContent = label;
  },

  /** While a training goes on, nothing but its length can be chosen. */
  setEnabled(enabled: boolean): void {
    for (const id of ['text-fields', 'model-fields', 'training-fields']) {
      element(id, HTMLFieldSetElement).disabled = !enabled;
    }
  },

  gpt2Source(): string | File[] {
    const files = [...(input('gpt2-files').files ?? [])];
    return files.length > 0 ? files : input('gpt2-source').value.trim();
  },
};

function disableMissing({webgpu, webgl, software}: Offer): void {
  for (const [name, isThere] of Object.entries({webgpu, webgl})) {
    const option = select('backend').querySelector<HTMLOptionElement>(`option[value="${name}"]`);
    if (!option || isThere) continue;
    option.disabled = true;
    option.textContent += ' (not offered here)';
  }
  if (!webgpu && webgl) select('backend').value = 'webgl';
  const sentences: string[] = [];
  if (!webgpu) {
    sentences.push(
      webgl
        ? 'This browser offers no WebGPU, so WebGL computes. For WebGPU, use a current Chrome, Edge, Firefox or Safari, and see that graphics acceleration is on.'
        : 'This browser offers neither WebGPU nor WebGL 2, so the processor computes, slowly. Use a current browser with graphics acceleration on.',
    );
  }
  if (software) sentences.push('This browser draws without a GPU, so the settings start small.');
  show('offer', sentences.join(' '));
}

function suggestRate(): void {
  const rate = select('tuning').value === 'lora' ? LORA_RATE : RATES[select('model').value as ModelChoice['source']];
  input('learning-rate').valueAsNumber = rate;
}

function showFitting(): void {
  element('new-fields', HTMLElement).hidden = select('model').value !== 'new';
  element('gpt2-fields', HTMLElement).hidden = select('model').value !== 'gpt2';
  const full = select('tuning').value !== 'lora';
  element('lora-fields', HTMLElement).hidden = full;
  // What is not seen must not hold up the form.
  input('lora-rank').disabled = full;
}
