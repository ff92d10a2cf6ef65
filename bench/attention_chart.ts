/**
 * A bar chart of attention, as SVG, from a results file: rates by problem and contender, and a word where there is none.
 * It has a ground of its own, light or dark as its reader's browser likes, so that it can be read on any page.
 */
import {type AttentionProblem, type Contender, contendersOf, flopCount, kindOf, peersOf, problemName} from './cases.js';
import {measurementOf, type Row, type Run, rowsOf, shortReason} from './report.js';

const WIDTH = 760;
const MARGIN = 16;
const LABEL_WIDTH = 150;
/** Right of the longest bar there is room for its rate. */
const BAR_WIDTH = WIDTH - LABEL_WIDTH - 2 * MARGIN - 110;
const BAR_HEIGHT = 13;
const LINE_HEIGHT = 18;
const GAP = 10;

/** By contender: a colour on light ground and one on dark ground, told apart by the colour-blind too. */
const COLORS: Partial<Record<Contender, [string, string]>> = {
  flash: ['#0062a8', '#4aa8e8'],
  unfused: ['#c97f00', '#f0b13c'],
  onnxruntime: ['#00805c', '#2fc197'],
  jax: ['#b0508a', '#e393c2'],
};

const STYLE = `
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.ground { fill: #ffffff; } .title { font-weight: 600; } .note { font-size: 11px; fill: #59636e; }
${colorRules(0)}
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .ground { fill: #0d1117; } .note { fill: #9198a1; }
  ${colorRules(1)}
}`;

function colorRules(theme: 0 | 1): string {
  return Object.entries(COLORS)
    .map(([name, colors]) => `.${name} { fill: ${colors[theme]}; }`)
    .join(' ');
}

type AttentionRow = Row & {problem: AttentionProblem};

/** A part of the chart across its whole width: SVG from y = 0 down to its height. */
interface Strip {
  svg: string;
  height: number;
}

/**
 * @param only keep problems whose name contains this, for example `webgpu forward full`
 * @throws where the results hold no such attention with a time
 */
export function attentionChart(run: Run, only = ''): string {
  const rows = rowsOf(run.results)
    .filter(isTimedAttention)
    .filter(({problem}) => problemName(problem).includes(only));
  const rates = rows.flatMap((row) => contendersIn(row).map((contender) => rateOf(row, contender) ?? 0));
  const highest = Math.max(0, ...rates);
  if (highest === 0) throw new Error(`The results hold no attention with a time whose name contains '${only}'.`);
  // A software GPU does less than that.
  const unit = highest < 0.1 ? {name: 'GFLOP/s', perTera: 1000} : {name: 'TFLOP/s', perTera: 1};
  const contenders = [...new Set(rows.flatMap(contendersIn))];
  const strips = [
    text(`Attention in a browser, ${unit.name} (longer is faster)`, 'title'),
    legend(contenders),
    ...groupedBy(rows, sectionOf).flatMap(([section, ofSection]) => [
      {svg: '', height: GAP},
      text(section, 'title'),
      ...ofSection.map((row) =>
        bars(row, (rate) => ({width: (BAR_WIDTH * rate) / highest, label: format(rate * unit.perTera)})),
      ),
    ]),
    {svg: '', height: GAP},
    ...notes(run)
      .flatMap(lines)
      .map((line) => text(line, 'note')),
  ];
  return svgOf(strips);
}

function isTimedAttention(row: Row): row is AttentionRow {
  return kindOf(row.problem) === 'attention' && row.problem.timed;
}

function contendersIn({problem, outcomes}: AttentionRow): Contender[] {
  return [...contendersOf(problem), ...peersOf(problem)].filter((name) => outcomes[name]);
}

/** TFLOP/s. */
function rateOf({problem, outcomes}: AttentionRow, contender: Contender): number | undefined {
  const milliseconds = measurementOf(outcomes[contender])?.milliseconds;
  return milliseconds && flopCount(problem, contender) / milliseconds / 1e9;
}

function sectionOf({problem: {backend, pass, causal, depth}}: AttentionRow): string {
  const names = {webgpu: 'WebGPU', webgl: 'WebGL'};
  return `${names[backend]}, ${pass}, ${causal ? 'causal' : 'no mask'}, D ${depth}`;
}

function groupedBy<T>(items: T[], keyOf: (item: T) => string): [string, T[]][] {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return [...groups];
}

function legend(contenders: Contender[]): Strip {
  const entries = contenders.map((name, i) => {
    const x = MARGIN + 150 * i;
    return `<rect class="${name}" x="${x}" y="3" width="12" height="12"/>${textAt(x + 18, 13, labelOf(name))}`;
  });
  return {svg: entries.join(''), height: LINE_HEIGHT};
}

function labelOf(contender: Contender): string {
  const labels: Partial<Record<Contender, string>> = {
    flash: 'flashAttention',
    unfused: 'tfjs, unfused',
    onnxruntime: 'onnxruntime-web',
    jax: 'jax-js',
  };
  return labels[contender] ?? contender;
}

function bars(row: AttentionRow, barOf: (rate: number) => {width: number; label: string}): Strip {
  const {batch, heads, sequence} = row.problem;
  const contenders = contendersIn(row);
  const ofContenders = contenders.map((contender, i) => {
    const y = i * (BAR_HEIGHT + 2);
    const rate = rateOf(row, contender);
    const x = MARGIN + LABEL_WIDTH;
    if (rate === undefined) return textAt(x + 4, y + 11, `${labelOf(contender)}: ${reasonOf(row, contender)}`, 'note');
    const {width, label} = barOf(rate);
    const bar = `<rect class="${contender}" x="${x}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}"/>`;
    return bar + textAt(x + width + 5, y + 11, label);
  });
  const label = textAt(MARGIN, 11, `B ${batch}, H ${heads}, S ${sequence}`);
  return {svg: [label, ...ofContenders].join(''), height: contenders.length * (BAR_HEIGHT + 2) + GAP};
}

function reasonOf({outcomes}: AttentionRow, contender: Contender): string {
  const outcome = outcomes[contender];
  return outcome?.ok === false ? shortReason(outcome.reason) : 'not timed';
}

function notes({adapter, drivers, browser, date, versions = []}: Run): string[] {
  return [
    [...new Set([...Object.values(adapter), ...drivers])].join('; '),
    [browser, date.slice(0, 10), ...versions].join(', '),
    'Operations as usually counted: 4·B·H·S²·D forward, 3.5 times as many with the gradients, half of them when causal.',
  ];
}

/** Broken between words where it would not fit. */
function lines(words: string): string[] {
  return words.match(/.{1,125}(?=\s|$)/g)?.map((line) => line.trim()) ?? [];
}

function text(words: string, style: string): Strip {
  return {svg: textAt(MARGIN, 13, words, style), height: LINE_HEIGHT};
}

function textAt(x: number, y: number, words: string, style = ''): string {
  const escaped = words.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return `<text${style && ` class="${style}"`} x="${x.toFixed(1)}" y="${y}">${escaped}</text>`;
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** The strips below each other. */
function svgOf(strips: Strip[]): string {
  let y = MARGIN;
  const placed = strips.map(({svg, height}) => {
    const group = svg && `<g transform="translate(0 ${y})">${svg}</g>`;
    y += height;
    return group;
  });
  const height = y + MARGIN;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
<style>${STYLE}
</style>
<rect class="ground" width="${WIDTH}" height="${height}" rx="6"/>
${placed.filter(Boolean).join('\n')}
</svg>
`;
}
