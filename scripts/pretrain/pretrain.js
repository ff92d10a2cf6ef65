/**
 * `npm run pretrain`: trains the demo's language model in a browser with this very package, into demo/public/gpt. It
 * packs what that needs into a folder and runs it there, exactly as on another machine.
 *
 *     npm run pretrain -- [--text FILE] [--pack FOLDER] [options of options.ts]
 */
import {spawnSync} from 'node:child_process';
import {mkdir, mkdtemp, readFile, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {dirname, join, relative, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {bundlePage, bundleRunner, copyPlaywright} from '../../bench/pack.js';
import {collectText, manifestLines} from './collect_text.js';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const OUT = join(root, 'demo/public/gpt');

/**
 * @param {string} folder is emptied first
 * @param {string} [textFile] by default the text is collected
 */
async function pack(folder, textFile) {
  // Of a text that is given, nobody knows here what it was collected from.
  const {text, packages = null} = textFile ? {text: await readFile(textFile)} : await collect();
  const {version} = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  await rm(folder, {recursive: true, force: true});
  await mkdir(folder, {recursive: true});
  await writeFile(join(folder, 'text.txt'), text);
  await bundlePage(join(here, 'page.ts'), folder);
  await bundleRunner(join(here, 'runner.ts'), folder, {
    LIBRARY_VERSION: JSON.stringify(version),
    TEXT_PACKAGES: JSON.stringify(packages),
  });
  await copyPlaywright(join(folder, 'node_modules/playwright-core'));
}

async function collect() {
  const {text, manifest} = await collectText();
  console.log(manifestLines(manifest));
  return {text, packages: manifest.packages};
}

/** Takes an option and its value out of the arguments, which the packed program does not know. */
function take(args, option) {
  const at = args.indexOf(option);
  if (at < 0) return undefined;
  const [, value] = args.splice(at, 2);
  if (!value) throw new Error(`${option} takes a path.`);
  return value;
}

async function packAndRun(args, textFile) {
  const folder = await mkdtemp(join(tmpdir(), 'tfjs-flash-pretrain-'));
  try {
    await pack(folder, textFile);
    const {status} = spawnSync(process.execPath, [join(folder, 'run.mjs'), '--out', OUT, ...args], {stdio: 'inherit'});
    return status ?? 1;
  } finally {
    await rm(folder, {recursive: true, force: true});
  }
}

const args = process.argv.slice(2);
const textFile = take(args, '--text');
const folder = take(args, '--pack');
if (folder) {
  await pack(resolve(folder), textFile);
  console.log(`Packed; run it with: node ${join(relative('.', resolve(folder)), 'run.mjs')} --out gpt`);
} else {
  process.exitCode = await packAndRun(args, textFile);
}
