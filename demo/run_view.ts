/** The part of the page that shows a training: its state, figures, curve and samples. */
import {memoryMeter} from './backend.js';
import {element, formatBytes, formatCount, formatDuration, show} from './dom.js';
import {LossChart} from './loss_chart.js';
import {usedBytes} from './memory_meter.js';
import type {SavedRun} from './saved_run.js';
import {settingsForm} from './settings_form.js';
import type {Progress} from './training.js';

/** What the page is busy with. */
export type State = 'idle' | 'preparing' | 'running' | 'paused' | 'stopping' | 'writing' | 'comparing';

const chart = new LossChart(element('chart', HTMLElement));
const button = (id: string) => element(id, HTMLButtonElement);

export const runView = {
  /** @param run the one that Resume would go on with. */
  showState(state: State, run: SavedRun | undefined): void {
    const idle = state === 'idle';
    const training = state === 'running' || state === 'paused';
    settingsForm.setEnabled(idle);
    for (const id of ['prompt', 'sample-length']) element(id, HTMLInputElement).disabled = !idle;
    for (const id of ['start', 'write', 'compare']) button(id).disabled = !idle;
    for (const id of ['save', 'download']) button(id).disabled = !run || !(idle || state === 'paused');
    button('pause').disabled = !training && !(idle && run);
    button('pause').textContent = state === 'paused' || (idle && run) ? 'Resume' : 'Pause';
    button('stop').disabled = !training && state !== 'writing' && state !== 'comparing';
    button('export-csv').disabled = !run || run.progress.losses.length === 0;
    element('upload', HTMLInputElement).disabled = !idle;
    document.body.dataset.state = state;
  },

  say(sentence: string): void {
    show('status', sentence);
  },

  /** '' takes it away. */
  showProblem(sentence: string): void {
    show('problem', sentence);
  },

  showProgress(progress: Progress, steps: number): void {
    const {step, losses, heldOut} = progress;
    const bar = element('progress', HTMLProgressElement);
    bar.max = steps;
    bar.value = step;
    show('step', step === 0 ? '–' : formatCount(step));
    show('loss', losses.at(-1)?.toFixed(3) ?? '–');
    show('held-out', heldOut.at(-1)?.loss.toFixed(3) ?? '–');
    chart.show(progress);
    this.showMemory();
  },

  /** @param secondsPerStep 0 while that is not known. */
  showPace({step}: Progress, steps: number, secondsPerStep: number, tokensPerStep: number): void {
    const known = secondsPerStep > 0;
    const left = known && step < steps ? `, about ${formatDuration((steps - step) * secondsPerStep)} left` : '';
    show('time-left', `${formatCount(step)} of ${formatCount(steps)} steps${left}`);
    show('speed', known ? formatCount(tokensPerStep / secondsPerStep) : '–');
  },

  showSamples({before, now, nowStep}: Progress): void {
    show('sample-before', before);
    show('sample-now', now);
    show('now-title', now ? `After ${formatCount(nowStep)} steps` : 'After training');
  },

  showMemory(): void {
    show('memory', formatBytes(usedBytes()));
    show('peak', formatBytes(memoryMeter.peakBytes));
  },
};
