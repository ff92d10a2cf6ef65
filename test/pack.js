/**
 * Makes a folder with all that the specs need besides Node.js and a browser, for a machine with a GPU that has neither
 * the sources nor a network.
 *
 *     npm run test:gpu -- [folder]        then there:  node folder/run.mjs [browsers]
 *
 * FULL_GRID and TEST_ENVS say which specs, as for karma. The script builds first, for the specs load the bundle.
 */
import {cp, mkdir, rm} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {dirname, join, relative, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {copyPlaywright} from '../bench/pack.js';
import {bundleSpecs} from '../scripts/bundle_specs.js';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);

/** What the specs fetch, by the paths that karma serves it under. */
const SERVED = [
  'dist/tfjs-flash.min.js',
  'node_modules/@tensorflow/tfjs/dist/tf.min.js',
  'node_modules/@tensorflow/tfjs-core/dist/tf-core.min.js',
  'node_modules/@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm',
  'node_modules/@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm',
  'node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm',
  'node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.mjs',
];

/** @param {string} folder is emptied first */
export async function packSpecs(folder) {
  await rm(folder, {recursive: true, force: true});
  await mkdir(folder, {recursive: true});
  const bundle = await bundleSpecs({
    fullGrid: Boolean(process.env.FULL_GRID),
    environments: process.env.TEST_ENVS?.split(','),
  });
  await cp(bundle, join(folder, 'specs.js'));
  for (const path of SERVED) await cp(join(root, path), join(folder, path));
  const require = createRequire(import.meta.url);
  await cp(join(dirname(require.resolve('jasmine-core/package.json')), 'lib/jasmine-core'), join(folder, 'jasmine'), {
    recursive: true,
  });
  await cp(join(here, 'run_packed.js'), join(folder, 'run.mjs'));
  await copyPlaywright(join(folder, 'node_modules/playwright-core'));
}

const folder = process.argv[2] ?? '.gpu/specs';
await packSpecs(resolve(folder));
console.log(`Packed; run it with: node ${join(relative('.', resolve(folder)), 'run.mjs')}`);
