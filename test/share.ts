/**
 * Under karma several browsers run side by side, each its share of the specs, because compiling shaders keeps one thread
 * busy. A spec's share is a hash of its place: cases take turns, real and complex ones for example, and every second one
 * could be all that is slow.
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

/** The finaliser of MurmurHash3. */
function hash(x: number): number {
  let bits = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

if ('__karma__' in globalThis) {
  const {share, shares} = dealtShare();
  const env = jasmine.getEnv();
  const {specFilter: isWanted} = env.configuration();
  let place = 0;
  env.configure({specFilter: (spec) => (isWanted?.(spec) ?? true) && hash(place++) % shares === share});
}
