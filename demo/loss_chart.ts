/** The loss curve: the loss of every step, its running mean, and the held-out loss. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import {chartColor, followPage, themedAxis} from './chart_theme.js';
import type {HeldOutLoss, Progress} from './training.js';

/** How much a new loss counts in the running mean, in which the first ones count alike. */
const MEAN_MEMORY = 0.05;
const HEIGHT = 260;

/** Distances of ticks, because there are no half steps. */
const WHOLE_NUMBERS = [1, 2, 5].flatMap((n) => [1, 10, 100, 1e3, 1e4].map((power) => n * power)).sort((a, b) => a - b);

/** Values by step, from 0 on; null where there is none. */
type Column = (number | null)[];

export class LossChart {
  private readonly plot: uPlot;
  private data: [number[], Column, Column, Column] = [[], [], [], []];
  private drawIsPlanned = false;

  constructor(private readonly container: HTMLElement) {
    this.plot = new uPlot(chartOptions(container), this.data, container);
    followPage(this.plot, container, HEIGHT);
  }

  show({losses, heldOut}: Progress): void {
    this.data = [losses, heldOut].every(({length}) => length === 0) ? [[], [], [], []] : columnsOf(losses, heldOut);
    this.planDraw();
  }

  /** At most one drawing a frame, however fast the steps are. */
  private planDraw(): void {
    if (this.drawIsPlanned) return;
    this.drawIsPlanned = true;
    requestAnimationFrame(() => {
      this.drawIsPlanned = false;
      this.plot.setData(this.data);
      this.container.setAttribute('aria-label', this.description());
    });
  }

  private description(): string {
    const [, losses, means, heldOut] = this.data;
    const first = losses.find((loss) => loss !== null);
    if (first == null) return 'Loss curve, empty until training starts';
    const last = means.at(-1)?.toFixed(2);
    const held = heldOut.filter((loss) => loss !== null).map((loss) => loss.toFixed(2));
    const heldWords = held.length > 0 ? `; held-out from ${held[0]} to ${held.at(-1)}` : '';
    return `Loss curve over ${losses.length - 1} steps: training from ${first.toFixed(2)} to ${last}${heldWords}`;
  }
}

/** The loss of a step is drawn where the step has been taken; the held-out loss also before the first. */
function columnsOf(losses: readonly number[], heldOut: readonly HeldOutLoss[]): [number[], Column, Column, Column] {
  const steps = Array.from({length: losses.length + 1}, (_, step) => step);
  let mean = 0;
  const means: Column = losses.map((loss, i) => {
    mean += (loss - mean) * Math.max(MEAN_MEMORY, 1 / (i + 1));
    return mean;
  });
  const held: Column = steps.map(() => null);
  for (const {step, loss} of heldOut) held[step] = loss;
  return [steps, [null, ...losses], [null, ...means], held];
}

function chartOptions(container: HTMLElement): uPlot.Options {
  const color = (name: string) => () => chartColor(container, name);
  const value = (_: uPlot, loss: number | null) => loss?.toFixed(3) ?? '–';
  return {
    width: container.clientWidth,
    height: HEIGHT,
    scales: {x: {time: false}},
    axes: [
      themedAxis(container, {label: 'Step', incrs: WHOLE_NUMBERS}),
      themedAxis(container, {label: 'Loss, nats per token', size: 56}),
    ],
    series: [
      {label: 'Step'},
      {label: 'Training', stroke: color('--faint-accent'), width: 1.5, points: {show: false}, value},
      {label: 'Training, running mean', stroke: color('--accent'), width: 2.5, points: {show: false}, value},
      {label: 'Held out', stroke: color('--second'), width: 2, spanGaps: true, points: {show: true, size: 6}, value},
    ],
  };
}
