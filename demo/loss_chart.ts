/** The loss curve: the loss of every step, and its running mean on top. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

/** How much a new loss counts in the running mean. */
const meanMemory = 0.05;
const height = 280;

export class LossChart {
  private readonly steps: number[] = [];
  private readonly losses: number[] = [];
  private readonly means: number[] = [];
  private readonly plot: uPlot;
  private drawIsPlanned = false;

  constructor(private readonly container: HTMLElement) {
    this.plot = new uPlot(chartOptions(container), this.data(), container);
    new ResizeObserver(() => this.plot.setSize({width: container.clientWidth, height})).observe(container);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.plot.redraw());
  }

  add(step: number, loss: number): void {
    const before = this.means.at(-1) ?? loss;
    this.steps.push(step);
    this.losses.push(loss);
    this.means.push(before + (loss - before) * meanMemory);
    this.planDraw();
  }

  clear(): void {
    for (const column of [this.steps, this.losses, this.means]) column.length = 0;
    this.planDraw();
  }

  /** At most one drawing a frame, however fast the steps are. */
  private planDraw(): void {
    if (this.drawIsPlanned) return;
    this.drawIsPlanned = true;
    requestAnimationFrame(() => {
      this.drawIsPlanned = false;
      this.plot.setData(this.data());
      this.container.setAttribute('aria-label', this.description());
    });
  }

  private data(): uPlot.AlignedData {
    return [this.steps, this.losses, this.means];
  }

  private description(): string {
    if (this.steps.length === 0) return 'Loss curve, empty until training starts';
    const [first, last] = [this.losses[0], this.means[this.means.length - 1]].map((loss) => loss.toFixed(2));
    return `Loss curve over ${this.steps.length} steps, from ${first} down to a running mean of ${last}`;
  }
}

function chartOptions(container: HTMLElement): uPlot.Options {
  const color = (name: string) => () => getComputedStyle(container).getPropertyValue(name);
  const axis: uPlot.Axis = {
    stroke: color('--muted'),
    grid: {stroke: color('--line')},
    ticks: {stroke: color('--line')},
  };
  return {
    width: container.clientWidth,
    height,
    scales: {x: {time: false}},
    axes: [
      {...axis, label: 'Step'},
      {...axis, label: 'Loss, nats per byte', size: 56},
    ],
    series: [
      {label: 'Step'},
      {label: 'Loss', stroke: color('--faint-accent'), width: 1, value: (_, loss) => loss?.toFixed(3) ?? '–'},
      {label: 'Running mean', stroke: color('--accent'), width: 2.5, value: (_, loss) => loss?.toFixed(3) ?? '–'},
    ],
  };
}
