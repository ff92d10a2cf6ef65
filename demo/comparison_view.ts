/** Shows the comparison of flash and standard attention as it grows: two charts, and a table of the same. */
import uPlot from 'uplot';
import type {BackendName} from './backend.js';
import {chartColor, followPage, themedAxis} from './chart_theme.js';
import {type ComparedSizes, type ComparisonPoint, type Contender, compareAttention} from './comparison.js';
import {element, formatBytes, show} from './dom.js';

const HEIGHT = 240;
const contenders = ['flash', 'standard'] as const;

/** What a chart and half of the table show. */
interface Figure {
  id: string;
  label: string;
  valueOf(point: ComparisonPoint): number | undefined;
  format(value: number): string;
}

const time: Figure = {
  id: 'compare-time',
  label: 'Time per step',
  valueOf: ({seconds}) => seconds,
  format: (seconds) =>
    seconds < 1 ? `${Number((seconds * 1000).toPrecision(2))} ms` : `${Number(seconds.toPrecision(2))} s`,
};
const memory: Figure = {
  id: 'compare-memory',
  label: 'Memory per step',
  valueOf: ({bytes}) => bytes,
  format: formatBytes,
};

const charts = new Map<Figure, uPlot>();

/** Compares until it is done or aborted, and tells how far it is. */
export async function showComparison(sizes: ComparedSizes, backend: BackendName, signal: AbortSignal): Promise<void> {
  const points: ComparisonPoint[] = [];
  element('compare-results', HTMLElement).hidden = false;
  draw(points);
  const model = `${sizes.layers} ${sizes.layers === 1 ? 'layer' : 'layers'} of width ${sizes.width}, ${sizes.heads} heads, batch 1`;
  show('compare-status', `Comparing: ${model}. Stop ends it.`);
  for await (const point of compareAttention(sizes, backend, signal)) {
    points.push(point);
    draw(points);
  }
  show('compare-status', `${summary(points)} Model: ${model}.`);
}

function summary(points: readonly ComparisonPoint[]): string {
  const failed = points.find(({contender, failure}) => contender === 'standard' && failure !== undefined);
  if (failed) {
    const longest = Math.max(
      ...points.map(({contender, context, seconds}) => (contender === 'flash' && seconds ? context : 0)),
    );
    const words = `Standard attention fails at a context of ${failed.context}`;
    return `${words}${longest >= failed.context ? `, flash runs at ${longest}` : ''}. ${failed.failure}`;
  }
  const pairs = points.flatMap((flash) => {
    const standard = points.find(({contender, context}) => contender === 'standard' && context === flash.context);
    return flash.contender === 'flash' && flash.bytes && standard?.bytes
      ? [{context: flash.context, less: standard.bytes / flash.bytes}]
      : [];
  });
  const last = pairs.at(-1);
  if (!last) return 'Stopped before both had been measured.';
  return `At a context of ${last.context}, standard attention takes ${last.less.toPrecision(2)} times the memory of flash.`;
}

function draw(points: readonly ComparisonPoint[]): void {
  const contexts = [...new Set(points.map(({context}) => context))];
  for (const figure of [time, memory]) {
    const container = element(figure.id, HTMLElement);
    const chart = charts.get(figure) ?? makeChart(figure, container);
    const columns = contenders.map((contender) => contexts.map((context) => at(points, contender, context, figure)));
    chart.setData([contexts, ...columns, failureMarks(points, contexts, figure)]);
    container.setAttribute('aria-label', `${figure.label} by context; the table below has the figures`);
  }
  const rows = contexts.map((context) => row(points, context));
  element('compare-rows', HTMLElement).replaceChildren(...rows);
}

function find(points: readonly ComparisonPoint[], contender: Contender, context: number): ComparisonPoint | undefined {
  return points.find((point) => point.contender === contender && point.context === context);
}

function at(points: readonly ComparisonPoint[], contender: Contender, context: number, figure: Figure): number | null {
  const point = find(points, contender, context);
  return (point && figure.valueOf(point)) ?? null;
}

/** Where standard attention fails, at the height of its last value. */
function failureMarks(points: readonly ComparisonPoint[], contexts: number[], figure: Figure): (number | null)[] {
  const values = points.flatMap((point) => figure.valueOf(point) ?? []);
  const height = values.length > 0 ? Math.max(...values) : null;
  return contexts.map((context) => (find(points, 'standard', context)?.failure === undefined ? null : height));
}

function row(points: readonly ComparisonPoint[], context: number): HTMLTableRowElement {
  const cells = [time, memory].flatMap((figure) =>
    contenders.map((contender) => {
      const cell = document.createElement('td');
      const point = find(points, contender, context);
      const value = point && figure.valueOf(point);
      cell.textContent = value === undefined ? (point?.failure ? 'fails' : '–') : figure.format(value);
      if (point?.failure) {
        cell.className = 'fails';
        cell.title = point.failure;
      }
      return cell;
    }),
  );
  const line = document.createElement('tr');
  const head = document.createElement('th');
  head.scope = 'row';
  head.textContent = `${context}`;
  line.append(head, ...cells);
  return line;
}

function makeChart(figure: Figure, container: HTMLElement): uPlot {
  const color = (name: string) => () => chartColor(container, name);
  const value = (_: uPlot, raw: number | null) => (raw === null ? '–' : figure.format(raw));
  const line = {width: 2, points: {show: true, size: 7}, spanGaps: true, value};
  const options: uPlot.Options = {
    width: container.clientWidth,
    height: HEIGHT,
    title: figure.label,
    scales: {x: {time: false, distr: 3, log: 2}, y: {distr: 3, log: 10}},
    axes: [
      themedAxis(container, {
        label: 'Context',
        values: (_, splits) => splits.map((split) => (split === null ? '' : `${split}`)),
      }),
      themedAxis(container, {
        size: 64,
        values: (_, splits) => splits.map((split) => (split === null ? '' : figure.format(split))),
      }),
    ],
    series: [
      {label: 'Context'},
      {label: 'Flash', stroke: color('--accent'), ...line},
      {label: 'Standard', stroke: color('--second'), ...line},
      {
        label: 'Standard fails',
        stroke: color('--problem'),
        paths: () => null,
        points: {show: true, size: 14, width: 3, fill: color('--panel')},
        value: (_, raw) => (raw === null ? '–' : 'fails'),
      },
    ],
  };
  const chart = new uPlot(options, [[], [], [], []], container);
  followPage(chart, container, HEIGHT);
  charts.set(figure, chart);
  return chart;
}
