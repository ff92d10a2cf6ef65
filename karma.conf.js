/**
 * Runs the specs in headless Chromium on three backends: cpu, webgpu, webgl2.
 *
 *     FULL_GRID=1          the whole grid instead of a sample
 *     TEST_ENVS=cpu,webgl2 only these backends
 *     GREP=dropout         only specs whose full name contains this
 *     CHROME_BIN, GPU_FLAGS another browser, and its flags (for a machine with a GPU)
 */
import {existsSync} from 'node:fs';
import {createRequire} from 'node:module';
import {cpus} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {bundleSpecs} from './scripts/bundle_specs.js';
import {findBrowser, testFlags} from './scripts/find_browser.js';

const root = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);

/** Browsers side by side, each with its share of the specs (test/share.ts). */
const SHARES = Math.min(2, cpus().length);

/** Deals each browser its share; one that was started again gets none, and fails. */
function DealShares() {
  let dealt = 0;
  return (request, response, next) => {
    if (request.url !== '/share') return next();
    response.statusCode = dealt < SHARES ? 200 : 409;
    response.end(JSON.stringify({share: dealt++, shares: SHARES}));
  };
}

/** Ends the run with a plain count, and fails a run in which nothing was tested. */
function CountReporter() {
  let disconnected = false;
  this.onBrowserError = () => {
    disconnected = true;
  };
  this.onRunComplete = (_browsers, results) => {
    const {success, failed, skipped = 0} = results;
    if (success === 0 || disconnected) results.exitCode = 1;
    // What one browser ran, the others skipped; what GREP leaves out, all did.
    const leftOut = (skipped - (SHARES - 1) * (success + failed)) / SHARES;
    process.stdout.write(`\n${success} passed, ${failed} failed${leftOut > 0 ? `, ${leftOut} skipped` : ''}\n`);
  };
}

export default async function configure(config) {
  process.env.CHROME_BIN = findBrowser();
  const bundle = await bundleSpecs({
    fullGrid: Boolean(process.env.FULL_GRID),
    environments: process.env.TEST_ENVS?.split(','),
  });
  const served = (path) => ({pattern: path, included: false, watched: false, served: true});
  const iife = join(root, 'dist/tfjs-flash.min.js');
  if (!existsSync(iife)) throw new Error('Run `npm run build` first: the specs load the bundle for script tags.');
  config.set({
    basePath: root,
    frameworks: ['jasmine'],
    plugins: [
      require('karma-jasmine'),
      require('karma-chrome-launcher'),
      {'reporter:count': ['type', CountReporter], 'middleware:shares': ['factory', DealShares]},
    ],
    middleware: ['shares'],
    files: [
      {pattern: bundle, watched: false},
      served(iife),
      served(join(root, 'node_modules/@tensorflow/tfjs/dist/tf.min.js')),
      served(join(root, 'node_modules/@tensorflow/tfjs-core/dist/tf-core.min.js')),
      served(join(root, 'node_modules/@tensorflow/tfjs-backend-wasm/dist/*.wasm')),
      served(join(root, 'node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.{wasm,mjs}')),
    ],
    proxies: {
      '/dist/': '/base/dist/',
      '/node_modules/': '/base/node_modules/',
    },
    reporters: ['dots', 'count'],
    browsers: Array(SHARES).fill('Headless'),
    customLaunchers: {
      Headless: {base: 'ChromeHeadless', flags: process.env.GPU_FLAGS?.split(' ') ?? testFlags},
    },
    client: {
      args: process.env.GREP ? ['--grep', process.env.GREP] : [],
      jasmine: {
        random: false,
        timeoutInterval: process.env.FULL_GRID ? 600_000 : 120_000,
        failSpecWithNoExpectations: true,
      },
    },
    browserNoActivityTimeout: 600_000,
    // The oracle and compilers keep the page busy for longer than the default 5 s at a time.
    pingTimeout: 600_000,
    captureTimeout: 120_000,
    failOnEmptyTestSuite: true,
    singleRun: true,
    autoWatch: false,
  });
}
