/**
 * The program behind `npm run bench`, bundled by pack.js beside the page it drives: chooses the cases, runs them and
 * writes the results. It needs Node.js, a browser, and playwright-core beside it; no network and no sources.
 */
import {createReadStream} from 'node:fs';
import {mkdir, writeFile} from 'node:fs/promises';
import {createServer, type Server} from 'node:http';
import type {AddressInfo} from 'node:net';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {browserFlags, findBrowser} from '../scripts/find_browser.js';
import {type BrowserDescription, BrowserSession} from './browser_session.js';
import {
  type BenchCase,
  caseName,
  contendersOf,
  type Kind,
  kindOf,
  type PeerName,
  type Problem,
  peerNames,
  peersOf,
  type SuiteName,
  suite,
} from './cases.js';
import type {Outcome} from './measurement.js';
import {type Options, readOptions, usage} from './options.js';
import {
  adapterSlug,
  type CaseResult,
  markdownReport,
  profileTable,
  type Run,
  resultLine,
  sweepReport,
} from './report.js';
import {trialName} from './tune/tile_trial.js';

/** Of the packages that are measured, by contender; pack.js knows them. */
declare const PACKAGE_VERSIONS: Record<'unfused' | PeerName, string>;

const here = dirname(fileURLToPath(import.meta.url));
/** What the page fetches, by its place beside this program. */
const SERVED: Record<string, string> = {
  '/page.js': 'text/javascript',
  '/ort-wasm-simd-threaded.asyncify.wasm': 'application/wasm',
};

async function runBench(args: string[]): Promise<void> {
  const options = readOptions(args);
  if (options === 'help') {
    console.log(usage);
    return;
  }
  const server = await servePage();
  const gpuFlags = process.env.GPU_FLAGS?.split(/\s+/).filter(Boolean);
  const session = new BrowserSession({
    executablePath: findBrowser(),
    flags: gpuFlags ?? browserFlags,
    url: `http://localhost:${(server.address() as AddressInfo).port}/`,
  });
  try {
    const description = await session.describe();
    printDescription(description);
    if (gpuFlags && !options.allowSoftware) refuseSoftware(description);
    const run = await measureAll(session, description, options);
    const path = resultsPath(run, options);
    console.log(`\n${reportOf(run, options)}\nWritten to ${path}.json and ${path}.md`);
  } finally {
    await session.close();
    server.close();
  }
}

/** A case of these kinds may take so many times as long as another. */
const LIMITS: Partial<Record<Kind, number>> = {training: 10, gpt: 5, 'gpt mlp': 5};
/** The losses of contenders that start from equal weights may differ by so much of them. */
const LOSS_TOLERANCE = 1e-3;

async function measureAll(session: BrowserSession, description: BrowserDescription, options: Options): Promise<Run> {
  const {stockDevice} = options;
  const name: SuiteName = options.suite ?? (isSoftware(description) ? 'software' : 'gpu');
  const {problems, limitSeconds} = suite(name, options.filter);
  if (problems.length === 0) throw new Error('No case fits these options.');
  const versions = (['unfused', ...(options.peers ? peerNames : [])] as const).map((name) => PACKAGE_VERSIONS[name]);
  const run: Run = {...description, date: new Date().toISOString(), suite: name, stockDevice, versions, results: []};
  console.log(`${run.date}, suite ${name}, ${problems.length} problems\n`);
  const known = new Map<string, Outcome>();
  for (const problem of problems) {
    const results: CaseResult[] = [];
    for (const benchCase of benchCases(problem, options)) {
      const name = `${caseName(benchCase)} ${trialName(benchCase.trial)}`;
      const limit = options.limitSeconds ?? (LIMITS[kindOf(problem)] ?? 1) * limitSeconds;
      const outcome = known.get(name) ?? (await session.measure(benchCase, limit));
      known.set(name, outcome);
      const result: CaseResult = {benchCase, outcome};
      results.push(result);
      console.log(resultLine(result));
      if (outcome.ok && outcome.measurement.profile) console.log(profileTable(outcome.measurement.profile));
    }
    if (problem.kind === 'gpt') refuseUnequalLosses(results);
    run.results.push(...results);
    // A run that is cut off leaves what it has measured.
    await writeResults(run, options);
  }
  return run;
}

/** The first losses of a gpt with one attention and with the other, from the same weights and on the same batch. */
function refuseUnequalLosses(results: CaseResult[]): void {
  const losses = results.map(({outcome}) => (outcome.ok ? outcome.measurement.errors.firstLoss : undefined));
  const [ours, theirs] = losses;
  if (ours === undefined || theirs === undefined || Math.abs(ours - theirs) <= LOSS_TOLERANCE * theirs) return;
  for (const result of results) {
    result.outcome = {ok: false, reason: `wrong answer: from equal weights the losses are ${losses.join(' and ')}`};
    console.log(resultLine(result));
  }
}

/** The contenders on a problem, or ours with each of the tiles to try. */
function benchCases(problem: Problem, {stockDevice, profile, peers, trials}: Options): BenchCase[] {
  const contenders = [...contendersOf(problem), ...(peers ? peersOf(problem) : [])];
  if (trials.length === 0) return contenders.map((contender) => ({...problem, contender, stockDevice, profile}));
  return trials.map((trial) => ({...problem, contender: contenders[0], stockDevice, trial}));
}

function reportOf(run: Run, {trials}: Options): string {
  return trials.length > 0 ? sweepReport(run) : markdownReport(run);
}

/** Of both files, without what tells them apart. */
function resultsPath(run: Run, {out, label}: Options): string {
  return join(out, [adapterSlug(run), run.date.slice(0, 10), label].filter(Boolean).join('-'));
}

async function writeResults(run: Run, options: Options): Promise<void> {
  const path = resultsPath(run, options);
  await mkdir(options.out, {recursive: true});
  await writeFile(`${path}.json`, `${JSON.stringify(run, null, 2)}\n`);
  await writeFile(`${path}.md`, reportOf(run, options));
}

function printDescription({adapter, webglRenderer, drivers, browser}: BrowserDescription): void {
  console.log(`WebGPU adapter: ${JSON.stringify(adapter)}`);
  console.log(`WebGL renderer: ${webglRenderer}`);
  console.log(`Driver: ${drivers.join('; ')}`);
  console.log(`Browser: ${browser}`);
}

function isSoftware({adapter, webglRenderer}: BrowserDescription): boolean {
  return [...Object.values(adapter), webglRenderer].some((text) => /swiftshader|llvmpipe/i.test(text));
}

/** Without the right flags a browser falls back to a software GPU without a word. */
function refuseSoftware(description: BrowserDescription): void {
  if (!isSoftware(description)) return;
  throw new Error('GPU_FLAGS is set, yet a software GPU answers; correct the flags or pass --allow-software.');
}

async function servePage(): Promise<Server> {
  const server = createServer(({url = ''}, response) => {
    if (SERVED[url]) {
      response.setHeader('Content-Type', SERVED[url]);
      createReadStream(join(here, url)).pipe(response);
    } else if (url === '/') {
      response
        .setHeader('Content-Type', 'text/html')
        .end('<!doctype html><meta charset="utf-8"><title>Benchmark</title><script src="page.js"></script>');
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  return server;
}

try {
  await runBench(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
