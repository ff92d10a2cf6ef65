/** The page: connects its form, figures, chart and sample to a training. */
import './style.css';
import {type BackendName, backendLabels, startBackend, usedBytes} from './backend_choice.js';
import {LossChart} from './loss_chart.js';
import {readText, requireLength, type Text, TextProblem} from './text_data.js';
import {LossProblem, type StepReport, Training, type TrainingSettings} from './training.js';

/** Sizes of the model that the page does not ask for. */
const width = 128;
const heads = 4;
const hidden = 512;

type State = 'idle' | 'starting' | 'running' | 'paused' | 'stopping';

const form = element('settings', HTMLFormElement);
const choices = element('choices', HTMLFieldSetElement);
const drop = element('drop', HTMLElement);
const fileInput = element('file', HTMLInputElement);
const backendSelect = element('backend', HTMLSelectElement);
const pauseButton = element('pause', HTMLButtonElement);
const chart = new LossChart(element('chart', HTMLElement));

let state: State = 'idle';
let text: Text | undefined;
let training: Training | undefined;
/** Whether the GPU failed in the training that was started last. */
let gpuFailed = false;

listen();
void loadSample();

function listen(): void {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (state === 'idle') void train();
  });
  pauseButton.addEventListener('click', togglePause);
  element('stop', HTMLButtonElement).addEventListener('click', stop);
  fileInput.addEventListener('change', () => void takeFile(fileInput.files?.[0]));
  drop.addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (state === 'idle') void takeFile(event.dataTransfer?.files[0]);
  });
}

/** One training from Start to Stop, with everything that can go wrong in it told in the page. */
async function train(): Promise<void> {
  showProblem('');
  gpuFailed = false;
  try {
    const settings = readSettings();
    if (!text) throw new TextProblem('Choose a text file first.');
    requireLength(text, settings.sizes.context);
    setState('starting');
    const backend = await startBackend(backendSelect.value as BackendName, failOnGpu);
    training = new Training(text, settings, {onStep: showStep, onSample: showSample});
    clearResults(backend);
    setState('running', runningSentence(backend, training.model.parameterCount));
    await training.run();
  } catch (error) {
    if (!gpuFailed) showProblem(sentenceFor(error));
  }
  training = undefined;
  setState('idle', element('step', HTMLElement).textContent === '–' ? '' : 'Stopped. All GPU memory is free again.');
  showMemory();
}

function togglePause(): void {
  if (state === 'running') {
    training?.pause();
    setState('paused', 'Paused.');
  } else if (state === 'paused') {
    training?.resume();
    setState('running', 'Training.');
  }
}

function stop(): void {
  if (state !== 'running' && state !== 'paused') return;
  setState('stopping', 'Stopping…');
  training?.stop();
}

/** Ends the training. A failed step often comes with the GPU's failure, which explains it and so is what is shown. */
function failOnGpu(sentence: string): void {
  if (!gpuFailed) showProblem(sentence);
  gpuFailed = true;
  training?.stop();
}

function sentenceFor(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return error instanceof TextProblem || error instanceof LossProblem ? message : `Training failed: ${message}`;
}

function readSettings(): TrainingSettings {
  const number = (id: string) => element(id, HTMLInputElement).valueAsNumber;
  const sizes = {context: number('context'), width, heads, hidden};
  return {sizes, batch: number('batch'), learningRate: number('learning-rate')};
}

async function loadSample(): Promise<void> {
  const response = await fetch('sample.txt');
  if (!response.ok) return;
  showText({name: 'The sample text', bytes: new Uint8Array(await response.arrayBuffer())});
}

async function takeFile(file: File | undefined): Promise<void> {
  if (!file) return;
  try {
    showText(await readText(file));
    showProblem('');
  } catch (error) {
    showProblem(sentenceFor(error));
  }
}

function showText(chosen: Text): void {
  text = chosen;
  show('text-name', `${chosen.name}, ${formatBytes(chosen.bytes.length)}`);
}

function setState(next: State, sentence = ''): void {
  state = next;
  const trains = state === 'running' || state === 'paused';
  choices.disabled = state !== 'idle';
  element('start', HTMLButtonElement).disabled = state !== 'idle';
  element('stop', HTMLButtonElement).disabled = !trains;
  pauseButton.disabled = !trains;
  pauseButton.textContent = state === 'paused' ? 'Resume' : 'Pause';
  show('status', state === 'starting' ? 'Starting…' : sentence);
}

function runningSentence(backend: BackendName, parameters: number): string {
  const chosen = backendSelect.value as BackendName;
  const where = `on ${backendLabels[backend]}`;
  const training = `Training ${parameters.toLocaleString('en')} parameters ${where}.`;
  return backend === chosen ? training : `This browser offers no ${backendLabels[chosen]}. ${training}`;
}

function clearResults(backend: BackendName): void {
  chart.clear();
  show('sample', '');
  show('memory-label', backend === 'cpu' ? 'Memory' : 'GPU memory');
}

function showStep({step, loss, tokensPerSecond}: StepReport): void {
  chart.add(step, loss);
  show('loss', loss.toFixed(3));
  show('step', step.toLocaleString('en'));
  show('speed', tokensPerSecond > 0 ? Math.round(tokensPerSecond).toLocaleString('en') : '–');
  showMemory();
}

function showMemory(): void {
  show('memory', formatBytes(usedBytes()));
}

function showSample(written: string, step: number): void {
  show('sample', written);
  show('sample-step', `After ${step.toLocaleString('en')} steps:`);
}

function showProblem(sentence: string): void {
  show('problem', sentence);
}

function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function show(id: string, words: string): void {
  element(id, HTMLElement).textContent = words;
}

function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} '${id}'.`);
  return found;
}
