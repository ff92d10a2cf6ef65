/** The page: connects its controls to loading, training, writing, keeping and comparing. */
import './style.css';
import type {LayersModel} from '../src/tf.js';
import {backendLabels, memoryMeter, offerOfBrowser, reportOfGpu, startBackend, webglRanOutOfMemory} from './backend.js';
import {showComparison} from './comparison_view.js';
import {letDropFill, onClick, onFiles} from './controls.js';
import {element, formatBytes, formatCount, formatSteps, pause, show} from './dom.js';
import {type ModelFiles, sizesOf, trainedVariables, withModel} from './language_model.js';
import {chosenModel, newSizes} from './model_source.js';
import {GpuLoss, outOfMemory, Problem, sentenceFor} from './problem.js';
import {runView, type State} from './run_view.js';
import {download, downloadRun, FORMAT, keepRun, keptRun, type SavedRun, uploadedRun} from './saved_run.js';
import {type Settings, settingsForm} from './settings_form.js';
import {readTextFile, type TextSource, TrainingText} from './text_data.js';
import {makeTokenizer} from './tokenizer.js';
import {noProgress, type Snapshot, Training} from './training.js';
import {writeText} from './writing.js';

/** Milliseconds within which what goes on ends of itself after the GPU has failed. */
const READ_DELAY = 2000;

let state: State = 'idle';
let text: TextSource | undefined;
/** The run that the page shows and that Resume goes on with, as it was kept last. */
let run: SavedRun | undefined;
/** Whether the browser keeps it too, or only the page. */
let isInBrowser = false;
let training: Training | undefined;
/** Ends writing or comparing. */
let work = new AbortController();
/** What the GPU reported while the present work went on. */
let gpuProblem: Problem | undefined;

void begin();

async function begin(): Promise<void> {
  settingsForm.start(await offerOfBrowser());
  listen();
  setState('idle');
  await loadSample();
  await showKept();
}

function listen(): void {
  element('settings', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    if (state === 'idle') void start();
  });
  onClick('pause', pauseOrResume);
  onClick('stop', stop);
  onClick('write', () => void write());
  onClick('compare', () => void compare());
  onClick('use-sample', () => void loadSample());
  onClick('export-csv', exportCsv);
  onClick('save', () => void save());
  onClick('restore', () => void restore());
  onClick('download', () => run && downloadRun(run));
  onFiles('file', 'drop', ([file]) => void takeText(() => readTextFile(file)));
  onFiles('upload', 'upload-drop', (files) => void upload([...files]));
  letDropFill('gpt2-files', 'gpt2-drop');
  const paste = element('paste', HTMLTextAreaElement);
  paste.addEventListener('input', () => {
    if (paste.value) showText({name: 'The pasted text', text: paste.value});
  });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) training?.requestCopy();
  });
}

/** Does what takes a while; whatever goes wrong in it is told in the page. */
async function busy(next: State, act: () => Promise<void>): Promise<void> {
  runView.showProblem('');
  gpuProblem = undefined;
  work = new AbortController();
  setState(next);
  try {
    await Promise.race([act(), failureOfGpu(work.signal)]);
  } catch (error) {
    // What the GPU reports explains the error that comes of it.
    await reportOfGpu();
    runView.showProblem(withAdvice(gpuProblem ?? error));
    runView.say('');
    // What was learnt since the last copy is lost.
    if (training && run) showRun(run);
  } finally {
    training = undefined;
    setState('idle');
    runView.showMemory();
  }
}

function withAdvice(error: unknown): string {
  if (!(error instanceof GpuLoss)) return sentenceFor(error);
  const next = training ? 'Press Resume to go on from what was kept' : 'Try again';
  return `${error.message} ${next}, or choose another backend.`;
}

function setState(next: State): void {
  state = next;
  runView.showState(state, run);
}

/** Rejects some time after the GPU has failed: on a lost WebGL context, reads never end. */
function failureOfGpu(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', async () => {
      if (!gpuProblem) return;
      await pause(READ_DELAY);
      reject(gpuProblem);
    });
  });
}

function failOnGpu(problem: Problem): void {
  gpuProblem ??= problem;
  training?.fail(gpuProblem);
  work.abort(gpuProblem);
}

// Text

async function loadSample(): Promise<void> {
  await takeText(async () => {
    const response = await fetch('sample.txt').catch(() => undefined);
    if (!response?.ok) throw new Problem('The sample cannot be loaded. Choose a file or paste a text.');
    return {name: 'The sample story', text: await response.text()};
  });
}

async function takeText(read: () => Promise<TextSource>): Promise<void> {
  try {
    showText(await read());
    element('paste', HTMLTextAreaElement).value = '';
    runView.showProblem('');
  } catch (error) {
    runView.showProblem(sentenceFor(error));
  }
}

function showText(chosen: TextSource): void {
  text = chosen;
  show('text-name', `${chosen.name}, ${formatBytes(new Blob([chosen.text]).size)}`);
  element('prompt', HTMLInputElement).value = firstWords(chosen.text);
}

function firstWords(text: string): string {
  return text.trim().split(/\s+/, 2).join(' ').slice(0, 30);
}

// Training

async function start(): Promise<void> {
  await busy('preparing', async () => {
    const settings = settingsForm.read();
    if (!text) throw new Problem('Choose a text first: paste one, choose a file, or use the sample story.');
    runView.say('Preparing…');
    await startChosen(settings);
    const model = await modelOf(settings);
    await train({format: FORMAT, model, text, settings, progress: noProgress()});
  });
}

async function resume(kept: SavedRun): Promise<void> {
  if (!settingsForm.check()) return;
  await busy('preparing', async () => {
    const {steps, learningRate, prompt, sampleLength, backend} = settingsForm.read();
    if (steps <= kept.progress.step) {
      throw new Problem(`All ${formatCount(kept.progress.step)} steps are taken. Raise Steps to go on.`);
    }
    const settings = {...kept.settings, steps, learningRate, prompt, sampleLength, backend};
    settingsForm.fill(settings);
    runView.say('Preparing…');
    await startChosen(settings);
    await train({...kept, settings});
  });
}

/** Trains on the active backend until all steps are taken or it is stopped. */
async function train(begun: SavedRun): Promise<void> {
  const {settings, model: files} = begun;
  const {contextLength} = sizesOf(files.artifacts);
  if (settings.context > contextLength) {
    throw new Problem(`This model sees at most ${contextLength} tokens. Choose a context of up to ${contextLength}.`);
  }
  const progress = structuredClone(begun.progress);
  const tokenizer = await makeTokenizer(files.tokenizer);
  const data = await TrainingText.from(begun.text, tokenizer, settings.context);
  memoryMeter.restart();
  await withModel(files, settingsForm.variantOf(settings), async (model) => {
    run = begun;
    const onChange = () => runView.showProgress(progress, settings.steps);
    const tokensPerStep = settings.batch * settings.context;
    training = new Training(model, tokenizer, data, settings, progress, {
      onStep: (_, secondsPerStep) => {
        onChange();
        runView.showPace(progress, settings.steps, secondsPerStep, tokensPerStep);
      },
      onHeldOut: onChange,
      onSample: () => runView.showSamples(progress),
      onKeep: (snapshot) => keep(begun, snapshot, progress),
    });
    onChange();
    runView.showPace(progress, settings.steps, 0, tokensPerStep);
    runView.showSamples(progress);
    setState('running');
    runView.say(trainingSentence(model, files.name, settings));
    await training.run(begun.optimizer);
  });
  const end = progress.step < settings.steps ? 'Stopped' : 'Done';
  const kept = isInBrowser ? 'The model is kept in this browser.' : 'Download the model before you leave the page.';
  runView.say(`${end} after ${formatSteps(progress.step)}. ${kept}`);
}

async function keep(begun: SavedRun, {artifacts, optimizer}: Snapshot, progress: SavedRun['progress']): Promise<void> {
  run = {...begun, model: {...begun.model, artifacts}, optimizer, progress: structuredClone(progress)};
  offerTuned();
  try {
    await keepRun('latest', run);
    isInBrowser = true;
    if (state === 'paused') runView.say(`Paused after ${formatSteps(progress.step)}, and kept in this browser.`);
  } catch (error) {
    isInBrowser = false;
    if (state === 'paused') runView.say(`Paused after ${formatSteps(progress.step)}.`);
    runView.showProblem(sentenceFor(error));
  }
}

function trainingSentence(model: LayersModel, name: string, {backend}: Settings): string {
  const weights = trainedVariables(model).reduce((sum, {size}) => sum + size, 0);
  return (
    `Training ${formatCount(weights)} weights of “${name}” on ${backendLabels[backend]}. ` +
    'The first sample and the first step take longest: they compile the GPU’s programs.'
  );
}

function pauseOrResume(): void {
  if (state === 'running') {
    training?.pause();
    setState('paused');
    runView.say('Pausing after this step…');
  } else if (state === 'paused') {
    training?.resume();
    setState('running');
    runView.say('Training goes on.');
  } else if (state === 'idle' && run) {
    void resume(run);
  }
}

function stop(): void {
  work.abort();
  if (!training) return;
  setState('stopping');
  runView.say('Stopping…');
  training.stop();
}

/** Starts the backend of the settings; where another one runs in its place, the page says so. */
async function startChosen(settings: Settings): Promise<void> {
  const chosen = settings.backend;
  settings.backend = await startBackend(chosen, failOnGpu);
  if (settings.backend !== chosen) {
    const [wanted, got] = [backendLabels[chosen], backendLabels[settings.backend]];
    show('offer', `${wanted} does not start in this browser, so ${got} computes.`);
  }
}

function modelOf(settings: Settings): Promise<ModelFiles> {
  if (settings.source === 'tuned' && run) return Promise.resolve(run.model);
  return chosenModel({...settings, gpt2: settingsForm.gpt2Source()}, (sentence) => runView.say(sentence));
}

async function write(): Promise<void> {
  if (!settingsForm.check()) return;
  await busy('writing', async () => {
    const settings = settingsForm.read();
    // Once it has been trained, the chosen model is the trained one.
    const tuned = run && [run.settings.source, 'tuned'].includes(settings.source) ? run : undefined;
    runView.say('Preparing…');
    await startChosen(settings);
    const files = tuned ? tuned.model : await modelOf(settings);
    const variant = settingsForm.variantOf(tuned ? tuned.settings : settings);
    const tokenizer = await makeTokenizer(files.tokenizer);
    const place = tuned ? 'sample-now' : 'sample-before';
    await withModel(files, variant, async (model) => {
      runView.say(`“${files.name}” writes on ${backendLabels[settings.backend]}. Stop ends it.`);
      const options = {prompt: settings.prompt, maxTokens: settings.sampleLength, signal: work.signal};
      for await (const written of writeText(model, tokenizer, options)) show(place, written);
    });
    if (gpuProblem) throw gpuProblem;
    if (webglRanOutOfMemory()) throw new Problem(outOfMemory);
    runView.say('');
  });
}

// Keeping

/** Takes a run that was kept into the page, from where Resume goes on. */
function showRun(kept: SavedRun): void {
  run = kept;
  const {progress, settings} = kept;
  settingsForm.fill(settings);
  showText(kept.text);
  element('prompt', HTMLInputElement).value = settings.prompt;
  runView.showProgress(progress, settings.steps);
  runView.showPace(progress, settings.steps, 0, 0);
  runView.showSamples(progress);
  offerTuned();
}

function offerTuned(): void {
  if (run) settingsForm.offerTuned(`Fine-tuned: ${run.model.name}`);
}

/** After a reload: the training that was kept of itself, and whether a model was saved. */
async function showKept(): Promise<void> {
  try {
    const [latest, saved] = await Promise.all([keptRun('latest'), keptRun('saved')]);
    element('restore', HTMLButtonElement).disabled = saved === undefined;
    if (!latest) return;
    showRun(latest);
    const {step} = latest.progress;
    const isDone = step >= latest.settings.steps;
    const next = isDone ? 'Write with it, or raise Steps and resume.' : 'Resume goes on from there.';
    runView.say(`A training of this text was kept after ${formatSteps(step)}. ${next}`);
  } catch (error) {
    runView.showProblem(`The browser keeps nothing for this page, so save by Download. ${sentenceFor(error)}`);
  }
  setState(state);
}

async function save(): Promise<void> {
  if (!run) return;
  try {
    await keepRun('saved', run);
    element('restore', HTMLButtonElement).disabled = false;
    show('keep-status', `Saved after ${formatSteps(run.progress.step)}.`);
  } catch (error) {
    runView.showProblem(sentenceFor(error));
  }
}

async function restore(): Promise<void> {
  if (state !== 'idle') return;
  await take(() => keptRun('saved'));
}

async function upload(files: File[]): Promise<void> {
  await take(() => uploadedRun(files));
}

async function take(read: () => Promise<SavedRun | undefined>): Promise<void> {
  await busy('preparing', async () => {
    const found = await read();
    if (!found) throw new Problem('No model is saved in this browser.');
    showRun(found);
    show('keep-status', `Restored “${found.model.name}” after ${formatSteps(found.progress.step)}.`);
  });
}

function exportCsv(): void {
  if (!run) return;
  const {losses, heldOut} = run.progress;
  const held = new Map(heldOut.map(({step, loss}) => [step, loss]));
  const rows = [undefined, ...losses].map((loss, step) => [step, loss ?? '', held.get(step) ?? ''].join(','));
  download('loss.csv', new Blob([['step,training loss,held-out loss', ...rows].join('\n'), '\n'], {type: 'text/csv'}));
}

// Comparing

async function compare(): Promise<void> {
  if (!settingsForm.check()) return;
  await busy('comparing', async () => {
    const settings = settingsForm.read();
    await startChosen(settings);
    const sizes = settings.source === 'new' ? newSizes[settings.size] : sizesOf((await modelOf(settings)).artifacts);
    await showComparison(sizes, settings.backend, work.signal);
    if (gpuProblem) throw gpuProblem;
  });
}
