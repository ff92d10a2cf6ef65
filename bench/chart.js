/**
 * Draws a bar chart of a results file:
 *
 *     node bench/chart.js bench/results/NAME.json [TEXT] > CHART.svg
 *
 * TEXT keeps the problems whose name contains it, for example 'webgpu forward full'.
 */
import {mkdtemp, readFile, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {bundleRunner} from './pack.js';

const [results, only] = process.argv.slice(2);
if (!results) throw new Error('node bench/chart.js takes a results file, and writes an SVG to its output.');
const folder = await mkdtemp(join(tmpdir(), 'tfjs-flash-chart-'));
try {
  await bundleRunner(join(dirname(fileURLToPath(import.meta.url)), 'attention_chart.ts'), folder);
  const {attentionChart} = await import(pathToFileURL(join(folder, 'run.mjs')).href);
  process.stdout.write(attentionChart(JSON.parse(await readFile(results, 'utf8')), only));
} finally {
  await rm(folder, {recursive: true, force: true});
}
