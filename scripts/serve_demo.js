/** `npm start`: builds the demo page, serves it, and prints its address. PORT chooses the port; by default a free one. */
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {context} from 'esbuild';

const demo = join(dirname(fileURLToPath(import.meta.url)), '../demo');

/**
 * Serves the page until `close` is called; it is rebuilt when its sources have changed and it is loaded again.
 *
 * @param {number} [port] by default any free port
 * @returns {Promise<{url: string, close: () => Promise<void>}>}
 */
export async function serveDemo(port) {
  const builder = await context({
    entryPoints: [join(demo, 'page.ts')],
    outdir: demo,
    bundle: true,
    write: false,
    format: 'iife',
    target: 'es2022',
    minify: true,
    // tfjs's packages put a CommonJS bundle first.
    mainFields: ['module', 'browser', 'main'],
    define: {global: 'globalThis'},
    logLevel: 'warning',
  });
  try {
    await builder.rebuild();
    const server = await builder.serve({servedir: demo, host: '127.0.0.1', port});
    return {url: `http://localhost:${server.port}/`, close: () => builder.dispose()};
  } catch (error) {
    await builder.dispose();
    throw error;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const {url} = await serveDemo(process.env.PORT ? Number(process.env.PORT) : undefined);
  console.log(`Demo: ${url}`);
}
