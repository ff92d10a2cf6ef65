/** Imported first by the bundle for script tags: what comes after needs the global `tf`, and would fail obscurely. */
if (!('tf' in globalThis)) {
  throw new Error('tfjs-flash: load @tensorflow/tfjs in a script tag before tfjs-flash; the global `tf` is missing.');
}
