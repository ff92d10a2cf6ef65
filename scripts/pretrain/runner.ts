/**
 * The program behind `npm run pretrain`, bundled by pack.js beside the page that it drives and the text. It needs
 * Node.js, a browser, and playwright-core beside it; no network and no sources.
 */
import {createHash} from 'node:crypto';
import {mkdir, readFile, stat, writeFile} from 'node:fs/promises';
import {createServer, type IncomingMessage, type Server} from 'node:http';
import type {AddressInfo} from 'node:net';
import {dirname, join} from 'node:path';
import {buffer} from 'node:stream/consumers';
import {fileURLToPath} from 'node:url';
import {chromium, type Page} from 'playwright-core';
import {browserFlags, findBrowser} from '../find_browser.js';
import {MODEL_FILE, WEIGHTS_FILE} from './float16_files.js';
import {type Options, readOptions, usage} from './options.js';
import type {Assignment, PretrainingPage} from './pretraining.js';

type PageGlobal = typeof globalThis & {pretraining: PretrainingPage};

/** Both are replaced when this file is bundled. */
declare const LIBRARY_VERSION: string;
declare const TEXT_PACKAGES: string[] | null;

const here = dirname(fileURLToPath(import.meta.url));
const TEXT = join(here, 'text.txt');

async function run(args: string[]): Promise<void> {
  const options = readOptions(args);
  if (options === 'help') {
    console.log(usage);
    return;
  }
  const {settings, out} = options;
  const text = {sha256: await sha256Of(TEXT), packages: TEXT_PACKAGES};
  const assignment = {settings, text, libraryVersion: LIBRARY_VERSION};
  await mkdir(out, {recursive: true});
  const server = await serve(out);
  const gpuFlags = process.env.GPU_FLAGS?.split(/\s+/).filter(Boolean);
  const browser = await chromium.launch({executablePath: findBrowser(), args: gpuFlags ?? browserFlags});
  try {
    const page = await browser.newPage();
    // Only the time limit ends a long training.
    page.setDefaultTimeout(0);
    page.on('console', (message) => console.log(message.text()));
    await page.goto(`http://localhost:${(server.address() as AddressInfo).port}/`);
    await describeGpu(page, gpuFlags !== undefined && !options.allowSoftware);
    await Promise.race([train(page, assignment), failure(page, options)]);
  } finally {
    await browser.close();
    server.close();
  }
  const {size} = await stat(join(out, WEIGHTS_FILE));
  console.log(`Written to ${out}: ${MODEL_FILE} and ${WEIGHTS_FILE}, ${(size / 1e6).toFixed(2)} MB.`);
}

function train(page: Page, assignment: Assignment): Promise<void> {
  return page.evaluate((given) => (globalThis as PageGlobal).pretraining.pretrain(given), assignment);
}

/** Without the right flags a browser falls back to a software GPU without a word. */
async function describeGpu(page: Page, refuseSoftware: boolean): Promise<void> {
  const {adapter, webglRenderer} = await page.evaluate(() => (globalThis as PageGlobal).pretraining.describe());
  const described = `${JSON.stringify(adapter)}, ${webglRenderer}`;
  console.log(`WebGPU adapter: ${described}`);
  if (refuseSoftware && /swiftshader|llvmpipe/i.test(described)) {
    throw new Error('GPU_FLAGS is set, yet a software GPU answers; correct the flags or pass --allow-software.');
  }
}

/** Rejects when the page crashes or the time is over. */
function failure(page: Page, {settings: {minutes}}: Options): Promise<never> {
  return new Promise((_, reject) => {
    page.on('crash', () => reject(new Error('The page crashed.')));
    if (minutes === undefined) return;
    setTimeout(() => reject(new Error(`The ${minutes} minutes are over.`)), minutes * 60_000).unref();
  });
}

async function sha256Of(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

/** Serves the page and the text, and the model's files, which the page writes first. */
async function serve(out: string): Promise<Server> {
  const html = `<!doctype html><meta charset="utf-8"><title>Pretraining</title><link rel="icon" href="data:,">
    <script src="page.js"></script>`;
  const paths = new Map([
    ['/page.js', join(here, 'page.js')],
    ['/text.txt', TEXT],
    ...[MODEL_FILE, WEIGHTS_FILE].map((name): [string, string] => [`/model/${name}`, join(out, name)]),
  ]);
  const answer = async (request: IncomingMessage): Promise<string | Buffer | undefined> => {
    const {method, url = '/'} = request;
    if (url === '/') return html;
    const path = paths.get(url);
    if (path === undefined) return undefined;
    if (method !== 'PUT') return readFile(path);
    if (!url.startsWith('/model/')) return undefined;
    await writeFile(path, await buffer(request));
    return '';
  };
  const server = createServer(async (request, response) => {
    const body = await answer(request).catch(() => undefined);
    if (body === undefined) response.writeHead(404).end();
    else
      response.setHeader('Content-Type', typeof body === 'string' ? 'text/html' : 'application/octet-stream').end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  return server;
}

try {
  await run(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
