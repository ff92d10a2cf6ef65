/** `npm start`: builds the demo page, serves it, and prints its address. PORT chooses the port; by default a free one. */
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build, preview} from 'vite';

const root = join(dirname(fileURLToPath(import.meta.url)), '../demo');

/** @type {import('vite').InlineConfig} */
const config = {
  root,
  // Relative, so that the built page works in any folder of any server.
  base: './',
  configFile: false,
  logLevel: 'warn',
  define: {global: 'globalThis'},
  // tfjs's packages put a CommonJS bundle first.
  resolve: {mainFields: ['module', 'browser', 'main']},
  build: {outDir: 'dist', emptyOutDir: true, target: 'es2022', chunkSizeWarningLimit: 4000},
};

/**
 * Serves the built page until `close` is called.
 *
 * @param {number} [port] by default any free port
 * @returns {Promise<{url: string, close: () => Promise<void>}>}
 */
export async function serveDemo(port) {
  await build(config);
  const server = await preview({
    ...config,
    preview: {host: 'localhost', port: port ?? 0, strictPort: port !== undefined},
  });
  const address = server.httpServer.address();
  return {url: `http://localhost:${address.port}/`, close: () => server.close()};
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const {url} = await serveDemo(process.env.PORT ? Number(process.env.PORT) : undefined);
  console.log(`Demo: ${url}`);
}
