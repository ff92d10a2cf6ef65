/**
 * Under karma several browsers run side by side, each its share of the specs, because compiling shaders keeps one thread
 * busy. Specs that run the same kernels share a browser, which then compiles these once: attention and what is made of it,
 * about half of the time, has one, and all else another.
 */

interface Share {
  share: number;
  shares: number;
}

/** Each browser asks once; the server counts. */
function dealtShare(): Share {
  const request = new XMLHttpRequest();
  request.open('GET', '/share', false);
  request.send();
  if (request.status !== 200) throw new Error(`No share of the specs is left for this browser: ${request.status}.`);
  return JSON.parse(request.responseText);
}

const HAS_ATTENTION = /attention|precision|onnxruntime|transformer|language model|loadGpt2|generate|KeyValueCache/i;

function shareOf(name: string, shares: number): number {
  return HAS_ATTENTION.test(name) ? 0 : shares - 1;
}

if ('__karma__' in globalThis) {
  const {share, shares} = dealtShare();
  const env = jasmine.getEnv();
  const {specFilter: isWanted} = env.configuration();
  env.configure({
    specFilter: (spec) => (isWanted?.(spec) ?? true) && shareOf(spec.getFullName(), shares) === share,
  });
}
