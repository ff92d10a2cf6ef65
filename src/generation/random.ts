/** Uniform numbers in [0, 1): those of Math.random, or with a seed the same ones every time. */
export function randomOf(seed: number | undefined): () => number {
  if (seed === undefined) return Math.random;
  let state = seed | 0;
  // Mulberry32, of a period of 2³²: one number a token is drawn.
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
