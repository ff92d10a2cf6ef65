/** `npm run bench`: packs the benchmark into a temporary folder and runs it there, exactly as on another machine. */
import {spawnSync} from 'node:child_process';
import {mkdtemp, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {packBench} from './pack.js';

const folder = await mkdtemp(join(tmpdir(), 'tfjs-flash-bench-'));
try {
  await packBench(folder);
  const out = join(dirname(fileURLToPath(import.meta.url)), 'results');
  const args = [join(folder, 'run.mjs'), '--out', out, ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, {stdio: 'inherit'}).status ?? 1;
} finally {
  await rm(folder, {recursive: true, force: true});
}
