/**
 * Makes a folder with all that the benchmark needs besides Node.js and a browser, for a machine that has neither the
 * sources nor a network: the page and what it fetches, the program that drives it, and playwright-core.
 *
 *     node bench/pack.js [folder]        then there:  node folder/run.mjs --out results
 */
import {cp, mkdir, readFile, rm} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {dirname, join, relative, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, '../node_modules');
/** WebAssembly of onnxruntime-web's WebGPU execution provider. */
const ORT_WASM = 'ort-wasm-simd-threaded.asyncify.wasm';
/** The packages that are measured, by contender. */
const MEASURED = {unfused: '@tensorflow/tfjs-core', onnxruntime: 'onnxruntime-web', jax: '@jax-js/jax'};

/** @param {string} folder is emptied first */
export async function packBench(folder) {
  await rm(folder, {recursive: true, force: true});
  await mkdir(folder, {recursive: true});
  await bundlePage(join(here, 'page/page.ts'), folder);
  await cp(join(modules, 'onnxruntime-web/dist', ORT_WASM), join(folder, ORT_WASM));
  await bundleRunner(join(here, 'runner.ts'), folder, {PACKAGE_VERSIONS: JSON.stringify(await packageVersions())});
  await copyPlaywright(join(folder, 'node_modules/playwright-core'));
}

/** By contender, for example `onnxruntime-web 1.30.0`. */
async function packageVersions() {
  const versions = {};
  for (const [contender, name] of Object.entries(MEASURED)) {
    const {version} = JSON.parse(await readFile(join(modules, name, 'package.json'), 'utf8'));
    versions[contender] = `${name} ${version}`;
  }
  return versions;
}

/** The script that a page runs, as `page.js`. */
export function bundlePage(entryPoint, folder) {
  return build({
    entryPoints: [entryPoint],
    outfile: join(folder, 'page.js'),
    bundle: true,
    format: 'iife',
    target: 'es2022',
    minify: true,
    // A profile calls kernels by the names of tfjs's classes.
    keepNames: true,
    // tfjs's packages put a CommonJS bundle first.
    mainFields: ['module', 'browser', 'main'],
    define: {global: 'globalThis'},
    logLevel: 'warning',
  });
}

/** The program that drives the page, as `run.mjs`; `define` gives its globals that are known only now. */
export function bundleRunner(entryPoint, folder, define = {}) {
  return build({
    entryPoints: [entryPoint],
    outfile: join(folder, 'run.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    define,
    // It finds its own files by their place in its package, so it cannot be bundled.
    external: ['playwright-core'],
    logLevel: 'warning',
  });
}

/** Leaves out its trace viewer and its types, half of its size. */
export async function copyPlaywright(target) {
  const source = dirname(createRequire(import.meta.url).resolve('playwright-core/package.json'));
  const unused = new Set(['lib/vite', 'types'].map((path) => join(source, path)));
  await cp(source, target, {recursive: true, filter: (path) => !unused.has(path)});
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2] ?? '.gpu/bench';
  await packBench(resolve(folder));
  console.log(`Packed; run it with: node ${join(relative('.', resolve(folder)), 'run.mjs')} --out results`);
}
