/**
 * Under karma several browsers run side by side, each its share of the specs, because compiling shaders keeps one thread
 * busy. A spec's share is a hash of its place: cases take turns, real and complex ones for example, and every second one
 * could be all that is slow.
 */
import {randomIntegers} from '../bench/page/random_values.js';

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

if ('__karma__' in globalThis) {
  const {share, shares} = dealtShare();
  const env = jasmine.getEnv();
  const {specFilter: isWanted} = env.configuration();
  let place = 0;
  env.configure({specFilter: (spec) => (isWanted?.(spec) ?? true) && randomIntegers(place++, 1, shares)[0] === share});
}
