/** Turns outcomes into a Markdown report: what was measured on, a table of times, a table of memory, and the failures. */
import type {BrowserDescription} from './browser_session.js';
import {
  type BenchCase,
  type Contender,
  contendersOf,
  flopCount,
  isDecode,
  isGpt,
  isStructured,
  type Kind,
  keyValueBytes,
  kindOf,
  kinds,
  type PeerName,
  type Problem,
  peerNames,
  problemName,
} from './cases.js';
import type {Measurement, Outcome, ProfileEntry} from './measurement.js';
import {trialName} from './tune/tile_trial.js';

export interface CaseResult {
  benchCase: BenchCase;
  outcome: Outcome;
}

export interface Run extends BrowserDescription {
  /** ISO 8601 date and time of the start. */
  date: string;
  suite: string;
  stockDevice: boolean;
  /** Of the packages that ours is compared with, for example `onnxruntime-web 1.30.0`; older results lack them. */
  versions?: string[];
  results: CaseResult[];
}

/** All contenders on the same problem. */
export interface Row {
  problem: Problem;
  outcomes: Partial<Record<Contender, Outcome>>;
}

const mebi = 2 ** 20;
const absent = '–';

export function markdownReport(run: Run): string {
  const sections = kinds.flatMap((kind) => {
    const rows = rowsOf(run.results).filter(({problem}) => kindOf(problem) === kind);
    const timed = rows.filter(({problem}) => problem.timed);
    return [
      timed.length > 0 ? timeTable(kind, timed) : '',
      kind === 'training' && rows.length > 0 ? lossTable(rows) : '',
      rows.length > 0 ? memoryTable(kind, rows) : '',
      kind === 'gpt' && rows.length > 0 ? longestContexts(rows) : '',
    ];
  });
  return `${[heading(run), ...sections, failureList(run.results)].filter(Boolean).join('\n\n')}\n`;
}

/** A sweep over tiles: the fastest first. */
export function sweepReport(run: Run): string {
  const time = ({outcome}: CaseResult) => measurementOf(outcome)?.milliseconds ?? Number.POSITIVE_INFINITY;
  const lines = [...run.results]
    .sort((a, b) => time(a) - time(b))
    .map((result) => {
      const {benchCase, outcome} = result;
      return [
        problemName(benchCase),
        trialName(benchCase.trial),
        ...timeCells(benchCase, benchCase.contender, outcome),
      ];
    });
  return `${[heading(run), table(['case', 'tile', 'ms', 'rate'], lines), failureList(run.results)].filter(Boolean).join('\n\n')}\n`;
}

/** One line for the terminal. */
export function resultLine({benchCase, outcome}: CaseResult): string {
  const name = [benchCase.contender.padEnd(7), problemName(benchCase), trialName(benchCase.trial)]
    .filter(Boolean)
    .join(' ');
  if (!outcome.ok) return `${name}: ${outcome.reason}`;
  const {milliseconds, peakBytes} = outcome.measurement;
  const time =
    milliseconds === undefined
      ? []
      : [`${formatTime(milliseconds)} ms`, formatRate(benchCase, benchCase.contender, milliseconds)];
  return `${name}: ${[...time, `${formatMebi(peakBytes)} MiB`].join(', ')}`;
}

export function profileTable(entries: ProfileEntry[]): string {
  const total = entries.reduce((sum, {milliseconds}) => sum + milliseconds, 0);
  const lines = entries.map(({label, dispatches, milliseconds}) => [
    label,
    String(dispatches),
    milliseconds.toFixed(3),
    `${((100 * milliseconds) / total).toFixed(1)} %`,
  ]);
  return table(['kernel', 'dispatches', 'ms', `of ${total.toFixed(2)} ms`], lines);
}

/** A name for the adapter that can stand in a file name. */
export function adapterSlug({adapter, webglRenderer}: BrowserDescription): string {
  if (/swiftshader/i.test(webglRenderer)) return 'swiftshader';
  // Browsers may withhold the description from WebGPU and yet show it to WebGL, as "… (NAME (0x…)) …".
  const name = adapter.description || webglRenderer.match(/\(([^()]+) \(0x/)?.[1] || adapter.vendor || webglRenderer;
  const words = name.toLowerCase().split(/[^a-z0-9]+/);
  return [...new Set(words)].filter(Boolean).join('-').slice(0, 60);
}

function heading({date, suite, adapter, drivers, webglRenderer, browser, stockDevice, versions = []}: Run): string {
  const facts = [
    ['Date', date],
    [
      'WebGPU adapter',
      Object.entries(adapter)
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    ],
    ['WebGPU device', stockDevice ? "tfjs's own" : 'registerFlashBackend'],
    ['WebGL renderer', webglRenderer],
    ['Driver', drivers.join('; ')],
    ['Browser', browser],
    ['Versions', versions.join(', ')],
    ['Suite', suite],
  ];
  return `# Benchmark of ${date.slice(0, 10)}\n\n${facts.map(([name, value]) => `- ${name}: ${value}`).join('\n')}`;
}

function timeTable(kind: Kind, rows: Row[]): string {
  const peers = measuredPeers(rows);
  if (peers.length > 0) return peerTable(kind, rows, peers);
  const [ours, theirs] = contendersOf(rows[0].problem);
  const lines = rows.map(({problem, outcomes}) => [
    ...problemCells(problem),
    ...timeCells(problem, ours, outcomes[ours]),
    ...timeCells(problem, theirs, outcomes[theirs]),
    ratioCell(outcomes[ours], outcomes[theirs]),
  ]);
  const columns = [`${ours} ms`, `${ours} rate`, `${theirs} ms`, `${theirs} rate`, 'faster'];
  const call = isGpt(rows[0].problem) ? 'training step' : 'call';
  return `## Time of one ${call}: ${kind}\n\n${table([...problemColumns(rows[0].problem), ...columns], lines)}`;
}

/** A column for each contender. */
function peerTable(kind: Kind, rows: Row[], peers: PeerName[]): string {
  const [ours, ...others] = [...contendersOf(rows[0].problem), ...peers];
  const lines = rows.map(({problem, outcomes}) => [
    ...problemCells(problem),
    ...[ours, ...others].map((name) => {
      const [time, rate] = timeCells(problem, name, outcomes[name]);
      return rate === absent ? time : `${time} ms, ${rate}`;
    }),
    ratioCell(outcomes[ours], fastest(others.map((name) => outcomes[name]))),
  ]);
  const columns = [ours, ...others, `${ours} against the fastest other`];
  return `## Time and rate of one call: ${kind}\n\n${table([...problemColumns(rows[0].problem), ...columns], lines)}`;
}

function measuredPeers(rows: Row[]): PeerName[] {
  return peerNames.filter((name) => rows.some(({outcomes}) => outcomes[name]));
}

function fastest(outcomes: (Outcome | undefined)[]): Outcome | undefined {
  const time = (outcome: Outcome | undefined) => measurementOf(outcome)?.milliseconds ?? Number.POSITIVE_INFINITY;
  return outcomes.reduce((best, outcome) => (time(outcome) < time(best) ? outcome : best), undefined);
}

function memoryTable(kind: Kind, rows: Row[]): string {
  const [ours, theirs] = contendersOf(rows[0].problem);
  const peers = measuredPeers(rows);
  const lines = rows.map(({problem, outcomes}) => {
    const [ourBytes, theirBytes] = [ours, theirs].map((name) => measurementOf(outcomes[name])?.peakBytes);
    const less = ourBytes && theirBytes ? `${(theirBytes / ourBytes).toFixed(1)}×` : absent;
    const ofAttention = kind === 'gpt' ? [ours, theirs].map((name) => attentionCell(outcomes[name])) : [];
    const [ourCell, theirCell, ...ofPeers] = [ours, theirs, ...peers].map((name) => memoryCell(outcomes[name]));
    return [...problemCells(problem), ourCell, theirCell, less, ...ofPeers, ...ofAttention];
  });
  const ofAttention = kind === 'gpt' ? ['flashAttention alone', 'unfused alone'] : [];
  const columns = [...problemColumns(rows[0].problem), ours, theirs, 'less', ...peers, ...ofAttention];
  const what = isGpt(rows[0].problem) ? "training step above weights and Adam's moments" : 'call above its inputs';
  return `## Peak GPU memory of one ${what}, MiB: ${kind}\n\n${table(columns, lines)}`;
}

function attentionCell(outcome: Outcome | undefined): string {
  const bytes = measurementOf(outcome)?.attentionBytes;
  return bytes === undefined ? absent : formatMebi(bytes);
}

/** A line for each contender and backend. */
function longestContexts(rows: Row[]): string {
  const contexts = new Map<string, number[]>();
  for (const {problem, outcomes} of rows) {
    if (problem.kind !== 'gpt') continue;
    for (const contender of contendersOf(problem)) {
      const name = `${problem.backend} ${contender}`;
      const ran = contexts.get(name) ?? [];
      contexts.set(name, outcomes[contender]?.ok ? [...ran, problem.context] : ran);
    }
  }
  const lines = [...contexts].map(([name, ran]) => `- ${name}: ${ran.length > 0 ? Math.max(...ran) : 'none'}`);
  return `Longest context that ran, of those tried and in the batches above:\n\n${lines.join('\n')}`;
}

/** So many points of a loss curve stand in a table. */
const CURVE_POINTS = 12;

/** Loss curves side by side, in nats per byte: means of ten steps, and held-out losses at equal distances. */
function lossTable(rows: Row[]): string {
  const runs = rows.flatMap(({problem, outcomes}) =>
    contendersOf(problem).flatMap((contender) => {
      const training = measurementOf(outcomes[contender])?.training;
      return training ? [{name: `${problemName(problem)}: ${contender}`, ...training}] : [];
    }),
  );
  if (runs.length === 0) return '';
  const every = Math.ceil(runs[0].losses.length / CURVE_POINTS);
  const points = runs[0].losses.map((_, i) => i).filter((i) => (i + 1) % every === 0);
  const lines = runs.map(({name, parameters, losses, heldOut}) => [
    name,
    `${(parameters / 1e6).toFixed(2)} million`,
    ...points.map((i) => losses[i].toFixed(3)),
    ...heldOut.map((loss) => loss.toFixed(3)),
  ]);
  const looks = runs[0].heldOut.map((_, i) => `held out ${i + 1}/${runs[0].heldOut.length}`);
  const columns = ['run', 'parameters', ...points.map((i) => `step ${10 * (i + 1)}`), ...looks];
  return `## Loss\n\n${table(columns, lines)}`;
}

function problemColumns(problem: Problem): string[] {
  const {kind} = problem;
  if (kind === 'training') return ['backend', 'width', 'batch', 'S', 'steps'];
  if (kind === 'gpt') return ['backend', 'layers', 'width', 'B', 'S'];
  if (kind === 'gpt mlp') return ['backend', 'mlp', 'layers', 'width', 'B', 'S'];
  if (isStructured(problem)) return ['backend', 'pass', 'n', 'batch'];
  return ['backend', 'pass', ...(kind === 'attention' ? ['mask', 'B', 'H', 'S', 'D'] : ['n', 'block', 'density'])];
}

function problemCells(problem: Problem): string[] {
  const {backend, pass} = problem;
  if (problem.kind === 'training') {
    const {width, batch, sequence, steps} = problem;
    return [backend, ...[width, batch, sequence, steps].map(String)];
  }
  if (isGpt(problem)) {
    const {kind, mlp, layers, width, batch, context} = problem;
    return [backend, ...(kind === 'gpt mlp' ? [mlp] : []), ...[layers, width, batch, context].map(String)];
  }
  if (isStructured(problem)) return [backend, pass, String(problem.size), String(problem.batch)];
  if (problem.kind !== 'attention') {
    return [backend, pass, String(problem.size), String(problem.blockSize), `1/${1 / problem.density}`];
  }
  const {causal, batch, heads, sequence, depth} = problem;
  return [backend, pass, causal ? 'causal' : 'full', ...[batch, heads, sequence, depth].map(String)];
}

function timeCells(problem: Problem, contender: Contender, outcome: Outcome | undefined): string[] {
  const milliseconds = measurementOf(outcome)?.milliseconds;
  if (milliseconds === undefined) return [outcome?.ok === false ? shortReason(outcome.reason) : absent, absent];
  return [formatTime(milliseconds), formatRate(problem, contender, milliseconds)];
}

function memoryCell(outcome: Outcome | undefined): string {
  if (outcome?.ok === false) return shortReason(outcome.reason);
  return outcome ? formatMebi(outcome.measurement.peakBytes) : absent;
}

function ratioCell(ours: Outcome | undefined, theirs: Outcome | undefined): string {
  const [ourTime, theirTime] = [ours, theirs].map((outcome) => measurementOf(outcome)?.milliseconds);
  return ourTime && theirTime ? `${(theirTime / ourTime).toFixed(2)}×` : absent;
}

function failureList(results: CaseResult[]): string {
  const lines = results.flatMap(({benchCase, outcome}) =>
    outcome.ok ? [] : [`- ${benchCase.contender} ${problemName(benchCase)}: ${oneLine(outcome.reason)}`],
  );
  return lines.length > 0 ? `## Cases without a figure, and why\n\n${lines.join('\n')}` : '';
}

export function rowsOf(results: CaseResult[]): Row[] {
  const rows = new Map<string, Row>();
  for (const {benchCase, outcome} of results) {
    const name = problemName(benchCase);
    const row = rows.get(name) ?? {problem: benchCase, outcomes: {}};
    row.outcomes[benchCase.contender] = outcome;
    rows.set(name, row);
  }
  return [...rows.values()];
}

export function measurementOf(outcome: Outcome | undefined): Measurement | undefined {
  return outcome?.ok ? outcome.measurement : undefined;
}

/** What stands before the details, or `does not run`. */
export function shortReason(reason: string): string {
  const kinds = ['wrong answer', 'device error', 'out of memory', 'timed out', 'browser failed'];
  return kinds.find((kind) => reason.startsWith(kind)) ?? 'does not run';
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').slice(0, 300);
}

function table(columns: string[], lines: string[][]): string {
  const row = (cells: string[]) => `| ${cells.join(' | ')} |`;
  return [row(columns), row(columns.map(() => '---')), ...lines.map(row)].join('\n');
}

function formatRate(problem: Problem, contender: Contender, milliseconds: number): string {
  if (problem.kind === 'training') return absent;
  if (isGpt(problem)) {
    const tokens = (problem.batch * problem.context * 1000) / milliseconds;
    return `${tokens >= 100 ? tokens.toFixed(0) : tokens.toPrecision(3)} tokens/s`;
  }
  if (isDecode(problem)) return `${(keyValueBytes(problem) / milliseconds / 1e6).toPrecision(3)} GB/s`;
  const teraflops = flopCount(problem, contender) / milliseconds / 1e9;
  return teraflops < 0.1 ? `${(teraflops * 1000).toPrecision(3)} GFLOP/s` : `${teraflops.toPrecision(3)} TFLOP/s`;
}

function formatTime(milliseconds: number): string {
  return milliseconds >= 100 ? milliseconds.toFixed(0) : milliseconds.toPrecision(3);
}

function formatMebi(bytes: number): string {
  return (bytes / mebi).toFixed(1);
}
