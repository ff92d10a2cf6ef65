/**
 * Dropout's random bits, a pure function of (seed, batch·head, query, key), so that any kernel on any backend can make
 * those of any element at any time. The generator is pcg4d of Jarzynski & Olano, "Hash Functions for GPU Rendering"
 * (JCGT 9(3), 2020): one evaluation gives the bits of four neighbouring keys.
 */

const bits = new Uint32Array(4);

/** Random bits of the keys 4·keyQuad … 4·keyQuad+3. The array is reused by the next call. */
export function dropoutBits(seed: number, batchHead: number, query: number, keyQuad: number): Uint32Array {
  let x = step(keyQuad);
  let y = step(query);
  let z = step(batchHead);
  let w = step(seed);
  for (let round = 0; round < 2; round++) {
    x = (x + Math.imul(y, w)) | 0;
    y = (y + Math.imul(z, x)) | 0;
    z = (z + Math.imul(x, y)) | 0;
    w = (w + Math.imul(y, z)) | 0;
    if (round === 0) {
      x ^= x >>> 16;
      y ^= y >>> 16;
      z ^= z >>> 16;
      w ^= w >>> 16;
    }
  }
  bits[0] = x;
  bits[1] = y;
  bits[2] = z;
  bits[3] = w;
  return bits;
}

function step(value: number): number {
  return (Math.imul(value, 1664525) + 1013904223) | 0;
}
