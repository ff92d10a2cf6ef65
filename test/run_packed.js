/**
 * Runs packed specs (pack.js) in several browsers side by side, each its share; says which failed.
 *
 *     node run.mjs [browsers]     CHROME_BIN, GPU_FLAGS: the browser and its flags; GREP: only specs with this in their
 *                            name, or a pattern between slashes;
 *                            VERBOSE: print what the page logs
 */
import {readFile} from 'node:fs/promises';
import {createServer} from 'node:http';
import {dirname, extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {chromium} from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));

const SCRIPT = 'text/javascript; charset=utf-8';
const TYPES = {'.js': SCRIPT, '.mjs': SCRIPT, '.wasm': 'application/wasm', '.html': 'text/html; charset=utf-8'};
const PAGE = `<!doctype html>
<script src="/jasmine/jasmine.js"></script>
<script src="/jasmine/jasmine-html.js"></script>
<script src="/jasmine/boot0.js"></script>
<script src="/jasmine/share.js"></script>
<script src="/specs.js"></script>`;

/** Runs in the page: takes every n-th spec, and reports through functions that the runner exposes. */
const SHARE = `
const asked = new URLSearchParams(location.search);
const [share, shares, grep] = [Number(asked.get('share')), Number(asked.get('shares')), asked.get('grep')];
jasmine.DEFAULT_TIMEOUT_INTERVAL = 600000;
const pattern = /^\\/(.+)\\/$/.exec(grep);
const isAsked = pattern ? (name) => new RegExp(pattern[1]).test(name) : (name) => name.includes(grep);
let index = 0;
jasmine.getEnv().configure({
  random: false,
  failSpecWithNoExpectations: true,
  specFilter: (spec) => isAsked(spec.getFullName()) && index++ % shares === share,
});
jasmine.getEnv().addReporter({specDone: (result) => reportSpec(result), jasmineDone: (result) => reportEnd(result)});
addEventListener('load', () => jasmine.getEnv().execute());`;

function serve() {
  const server = createServer(async ({url}, response) => {
    const path = new URL(url, 'http://localhost').pathname;
    try {
      const made = {'/': PAGE, '/jasmine/share.js': SHARE}[path];
      const body = made ?? (await readFile(join(here, path)));
      response.writeHead(200, {'content-type': TYPES[path === '/' ? '.html' : extname(path)]}).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, () => resolve(server)));
}

/** One browser with its share of the specs. */
async function runShare(address, share, shares, counts) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROME_BIN,
    args: process.env.GPU_FLAGS?.split(' ') ?? [],
  });
  const page = await browser.newPage();
  page.on('pageerror', ({message}) => console.log(`The page: ${message}`));
  if (process.env.VERBOSE) page.on('console', (message) => console.log(message.text()));
  const end = new Promise((resolve) => {
    page.exposeFunction('reportEnd', ({overallStatus, failedExpectations}) => {
      for (const {message} of failedExpectations) console.log(`Outside of specs: ${message}`);
      resolve(overallStatus);
    });
    page.on('crash', () => resolve('crashed'));
  });
  await page.exposeFunction('reportSpec', ({status, fullName, failedExpectations}) => {
    if (status === 'excluded') return;
    counts[status] = (counts[status] ?? 0) + 1;
    // A run that its machine cuts off still says how far it came.
    if (++counts.ran % 50 === 0) console.log(JSON.stringify(counts));
    if (status !== 'failed') return;
    console.log(`FAILED ${fullName}`);
    for (const {message} of failedExpectations) console.log(`  ${message}`);
  });
  const asked = new URLSearchParams({share, shares, grep: process.env.GREP ?? ''});
  await page.goto(`${address}?${asked}`);
  const status = await end;
  await browser.close();
  return status;
}

async function runAll() {
  const shares = Number(process.argv[2] ?? 1);
  const server = await serve();
  const address = `http://localhost:${server.address().port}/`;
  const counts = {ran: 0};
  const runs = Array.from({length: shares}, (_, share) => runShare(address, share, shares, counts));
  const statuses = await Promise.all(runs);
  server.close();
  console.log(JSON.stringify(counts), statuses.join(' '));
  process.exitCode = counts.passed > 0 && statuses.every((status) => status === 'passed') ? 0 : 1;
}

await runAll();
