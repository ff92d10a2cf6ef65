/**
 * Collects the text that the demo's language model is trained on: the licences and the documentation of Perl's modules,
 * openly licensed English prose with code, found on any Debian machine. The same versions of the packages that these come
 * from give the same text, and others another one, so the manifest names them.
 *
 *     node scripts/pretrain/collect_text.js FILE
 */
import {spawnSync} from 'node:child_process';
import {createHash} from 'node:crypto';
import {existsSync} from 'node:fs';
import {mkdtemp, readdir, readFile, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';

const LICENCES = '/usr/share/common-licenses';
/** Of Perl itself: further modules, whose licences differ and which not every machine has, lie in folders named perl5. */
const PERL_FOLDERS = [/^\/usr\/share\/perl\/[\d.]+$/, /^\/usr\/lib\/[^/]+\/perl\/[\d.]+$/];
/** What renders the documentation, so its version shapes the text too. */
const POD2TEXT = '/usr/bin/pod2text';
const SEPARATOR = '\n\n';

/**
 * @typedef {{name: string, files: number, bytes: number}} Source
 * @typedef {{sources: Source[], packages: string[], bytes: number, sha256: string}} Manifest
 *   with packages as `perl-base 5.36.0-7`; none where dpkg-query is missing
 *
 * @returns {Promise<{text: Buffer, manifest: Manifest}>}
 * @throws if the machine lacks the text; the message says what to install
 */
export async function collectText() {
  const seen = new Set();
  const take = (texts) => texts.filter(isText).filter((text) => isNew(text, seen));
  const licences = take(await readAll(await filesUnder([LICENCES], /./)));
  const folders = await perlFolders();
  const documentation = take(await renderPod(await filesUnder(folders, /\.(pm|pod)$/)));
  if (licences.length === 0) throw new Error(`There is no text in ${LICENCES}: install the Debian package base-files.`);
  if (documentation.length === 0) throw noPerl();
  const text = Buffer.from([...licences, ...documentation].join(SEPARATOR));
  const sources = [describe('licences', licences), describe('documentation of Perl', documentation)];
  const packages = packagesOf([LICENCES, ...folders, POD2TEXT]);
  const sha256 = createHash('sha256').update(text).digest('hex');
  return {text, manifest: {sources, packages, bytes: text.length, sha256}};
}

/** @param {Manifest} manifest */
export function manifestLines({sources, packages, bytes, sha256}) {
  const lines = sources.map((source) => `${source.name}: ${source.files} files, ${source.bytes} bytes`);
  return [...lines, `packages: ${packages.join(', ') || 'unknown'}`, `text: ${bytes} bytes, sha256 ${sha256}`].join(
    '\n',
  );
}

function describe(name, texts) {
  return {name, files: texts.length, bytes: texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)};
}

function noPerl() {
  return new Error("There is no documentation of Perl's modules, or no pod2text: install the Debian package perl.");
}

/** The Debian packages that these files and folders belong to, with their versions, sorted. */
function packagesOf(paths) {
  // A line names all owners: `perl-base, libperl5.36:amd64: /usr/lib/…`.
  const owners = dpkgQuery(['--search', ...paths]).flatMap((line) => line.replace(/: \/.*$/, '').split(', '));
  if (owners.length === 0) return [];
  const versions = dpkgQuery(['--show', ...new Set(owners)]);
  return versions.map((line) => line.replace('\t', ' ')).sort();
}

/** The lines that it prints; none where it is missing, or knows none of what it is asked for. */
function dpkgQuery(args) {
  const {stdout} = spawnSync('dpkg-query', args, {encoding: 'utf8', env: {...process.env, LC_ALL: 'C'}});
  return (stdout ?? '').split('\n').filter(Boolean);
}

async function perlFolders() {
  const parents = ['/usr/share/perl', ...(await subfolders('/usr/lib')).map((folder) => join(folder, 'perl'))];
  const versions = await Promise.all(parents.map(subfolders));
  return versions.flat().filter((folder) => PERL_FOLDERS.some((pattern) => pattern.test(folder)));
}

/** Without links, so that the folder of a version is not taken twice. */
async function subfolders(folder) {
  if (!existsSync(folder)) return [];
  const entries = await readdir(folder, {withFileTypes: true});
  return entries.filter((entry) => entry.isDirectory()).map(({name}) => join(folder, name));
}

/** Sorted, without links. */
async function filesUnder(folders, pattern) {
  const listings = folders.filter(existsSync).map(async (folder) => {
    const entries = await readdir(folder, {recursive: true, withFileTypes: true});
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  });
  const paths = (await Promise.all(listings)).flat().filter((path) => pattern.test(path));
  // By code unit: the order must not depend on the machine's language.
  return paths.sort();
}

/** UTF-8; bytes that are none become replacement marks. */
function readAll(paths) {
  return Promise.all(paths.map((path) => readFile(path, 'utf8')));
}

/** Plain text of the files that hold documentation, in their order; one process renders all. */
async function renderPod(paths) {
  const sources = await readAll(paths);
  const documented = paths.filter((_, i) => /^=[a-zA-Z]/m.test(sources[i]));
  if (documented.length === 0) return [];
  const folder = await mkdtemp(join(tmpdir(), 'pod-text-'));
  try {
    const rendered = documented.map((_, i) => join(folder, `${i}.txt`));
    const {error} = spawnSync(POD2TEXT, [
      '--utf8',
      '--errors=none',
      ...documented.flatMap((path, i) => [path, rendered[i]]),
    ]);
    if (error) throw noPerl();
    // It writes nothing for a file whose directives turn out to be no documentation.
    return await readAll(rendered.filter(existsSync));
  } finally {
    await rm(folder, {recursive: true});
  }
}

function isText(text) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what text does not hold
  return text.trim() !== '' && !/[\x00-\x08\x0b\x0e-\x1f\x7f\ufffd]/.test(text);
}

function isNew(text, seen) {
  if (seen.has(text)) return false;
  seen.add(text);
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = process.argv[2];
  if (!path) throw new Error('Usage: node scripts/pretrain/collect_text.js FILE');
  const {text, manifest} = await collectText();
  await writeFile(path, text);
  console.log(manifestLines(manifest));
}
