/** Bundles all specs into one file, for karma here or for a browser on another machine. */
import {mkdtempSync, readdirSync, readFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** TensorFlow.js's own specs that must stay green with this package imported. */
const CORE_SPECS = ['ops/mat_mul_test.js', 'ops/softmax_test.js', 'gradients_test.js'].map(
  (path) => `@tensorflow/tfjs-core/dist/${path}`,
);

/**
 * @param {{fullGrid: boolean, environments?: string[]}} options
 * @returns {Promise<string>} the path of the bundle
 */
export async function bundleSpecs({fullGrid, environments = ['cpu', 'webgpu', 'webgl2']}) {
  const specs = filesUnder('test', '.test.ts').map((path) => `./${path}`);
  const outfile = join(mkdtempSync(join(tmpdir(), 'tfjs-flash-specs-')), 'specs.js');
  await build({
    // The set-up registers the environments that each spec file then runs in, so it comes first.
    stdin: {
      contents: ['./test/setup.ts', ...specs, './test/core_specs.ts', ...CORE_SPECS]
        .map((path) => `import '${path}';`)
        .join('\n'),
      resolveDir: root,
    },
    outfile,
    bundle: true,
    format: 'iife',
    target: 'es2022',
    sourcemap: 'inline',
    // tfjs's packages put a CommonJS bundle first.
    mainFields: ['module', 'browser', 'main'],
    external: ['util', 'crypto', 'worker_threads', 'perf_hooks', 'os', 'fs', 'path'],
    define: {
      global: 'globalThis',
      FULL_GRID: String(fullGrid),
      TEST_ENVIRONMENTS: JSON.stringify(environments),
      DOC_EXAMPLES: JSON.stringify(docExamples()),
    },
    // tfjs-core declares its specs free of side effects.
    ignoreAnnotations: true,
    logLevel: 'error',
  });
  return outfile;
}

/** Every ```js block in a doc comment of src and among the README's recipes, with the place where it stands. */
function docExamples() {
  const comments = filesUnder('src', '.ts').flatMap((path) => examplesIn(path, /^ \* ```js\n([\s\S]*?)^ \* ```$/gm));
  return [
    ...comments.map(({place, code}) => ({place, code: code.replace(/^ \* ?/gm, '')})),
    ...examplesIn('README.md', /^```js\n([\s\S]*?)^```$/gm, '\n### A recipe for each layer\n'),
  ];
}

/** What a pattern's group matches in a file, or in its section of that heading. */
function examplesIn(path, pattern, heading = '') {
  const text = readFileSync(join(root, path), 'utf8');
  const start = text.indexOf(heading);
  if (start < 0) throw new Error(`${path} has no section '${heading.trim()}'.`);
  const end = heading ? text.indexOf('\n### ', start + heading.length) : text.length;
  return [...text.matchAll(pattern)]
    .filter(({index}) => start <= index && index < end)
    .map(({1: code, index}) => ({place: `${path}:${text.slice(0, index).split('\n').length}`, code}));
}

function filesUnder(folder, ending) {
  return readdirSync(join(root, folder), {recursive: true})
    .filter((path) => path.endsWith(ending))
    .map((path) => join(folder, path))
    .sort();
}
