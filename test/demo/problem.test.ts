/** Specs of the demo's sentences about what went wrong. */
import {outOfMemory, sentenceFor} from '../../demo/problem.js';

describe('The demo', () => {
  for (const message of [
    'denseMatMul: the product of shape [24,1024,8192] needs 805306368 bytes, but a buffer of this WebGPU device holds 134217728.',
    'flashAttention: q of shape [1,1,99999999,8] needs 9 texels, but a texture of this WebGL device holds 64.',
    'Requested texture size [20000x10] greater than WebGL maximum on this browser / GPU [16384x16384].',
    'Buffer size (805306368) exceeds the max buffer size limit (268435456).\n - While calling CreateBuffer',
    'Binding size (201326592) of [Buffer (unlabeled)] is larger than the maximum storage buffer binding size (134217728).',
    'Buffer size 805306368 is greater than the maximum buffer size (268435456)',
    'Buffer binding 0 range 201326592 exceeds `max_*_buffer_binding_size` limit 134217728',
    'Out of memory',
  ]) {
    it(`gives advice on memory when told “${message.slice(0, 50)}…”`, () => {
      expect(sentenceFor(new Error(message))).toBe(outOfMemory);
    });
  }

  it('does not take other limits for a lack of memory', () => {
    const message = 'The number of storage buffers (9) in the Compute stage exceeds the maximum per-stage limit (8).';
    expect(sentenceFor(new Error(message))).toBe(`That did not work: ${message}`);
  });
});
