/** `npm run build`: ES modules with types into dist/src and dist/kernels, and the bundle for script tags into dist. */
import {execFileSync} from 'node:child_process';
import {rm} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');

/** In a page with script tags tfjs is the global `tf`; every import of tfjs-core and tfjs-layers means that. */
const tfjsFromGlobal = {
  name: 'tfjs from the global tf',
  setup(bundle) {
    bundle.onResolve({filter: /^@tensorflow\/tfjs-(core|layers)$/}, ({path}) => ({path, namespace: 'global-tf'}));
    bundle.onLoad({filter: /.*/, namespace: 'global-tf'}, () => ({contents: 'module.exports = globalThis.tf;'}));
  },
};

await rm(dist, {recursive: true, force: true});
const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
execFileSync(process.execPath, [join(typescript, 'bin/tsc'), '-p', 'tsconfig.build.json'], {
  cwd: root,
  stdio: 'inherit',
});
await build({
  entryPoints: [join(root, 'src/iife.ts')],
  outfile: join(dist, 'tfjs-flash.min.js'),
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2020',
  plugins: [tfjsFromGlobal],
  logLevel: 'warning',
});
