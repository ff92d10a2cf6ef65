/** Finds a Chromium-family browser for tests and benchmarks, and the flags that make it render without a GPU. */
import {execFileSync} from 'node:child_process';
import {existsSync} from 'node:fs';
import {delimiter, join} from 'node:path';

const NAMES = ['google-chrome-stable', 'google-chrome', 'chromium', 'chromium-browser', 'chrome'];
const MAC_PATHS = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
];

/** WebGPU and WebGL 2 on the software GPU SwiftShader, on a machine that may have neither a GPU nor a network. */
export const browserFlags = [
  '--headless=new',
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--enable-features=Vulkan',
  '--use-vulkan=swiftshader',
  '--use-angle=swiftshader',
  '--enable-unsafe-swiftshader',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * The same for tests, where most of the time is that in which SwiftShader compiles: it compiles a store for each number of
 * workgroup memory that Vulkan is asked to zero. Zeroed by a loop in the shader instead, kernels compile in a third of the time.
 */
export const testFlags = [
  ...browserFlags,
  '--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension',
];

/**
 * The path of a browser: CHROME_BIN, else an installed Chrome or Chromium, else, as root on Debian, the package
 * chromium, which it installs.
 *
 * @returns {string}
 * @throws if there is none and none can be installed; the message says what to install
 */
export function findBrowser() {
  if (process.env.CHROME_BIN) {
    if (!existsSync(process.env.CHROME_BIN))
      throw new Error(`CHROME_BIN is ${process.env.CHROME_BIN}, which is no file.`);
    return process.env.CHROME_BIN;
  }
  const found = installedBrowser() ?? (installDebianChromium() ? installedBrowser() : undefined);
  if (!found) throw new Error('Install Chrome or Chromium 113 or later, or set CHROME_BIN to the path of one.');
  return found;
}

/** @returns {string | undefined} */
function installedBrowser() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const candidates = [...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))), ...MAC_PATHS];
  return candidates.find((path) => existsSync(path));
}

/** @returns {boolean} whether it was installed */
function installDebianChromium() {
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version')) return false;
  console.log('No browser found: installing the Debian package chromium.');
  const options = {stdio: 'inherit', env: {...process.env, DEBIAN_FRONTEND: 'noninteractive'}};
  try {
    execFileSync('apt-get', ['update', '-qq'], options);
    execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], options);
    return true;
  } catch {
    return false;
  }
}
