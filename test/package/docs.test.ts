/** Every example in a doc comment of src, and every recipe of the README, runs as it stands. */
import * as core from '@tensorflow/tfjs-core';
import * as tf from '../../src/tf.js';
import {restoreBackendAfterwards} from '../backends.js';

declare const DOC_EXAMPLES: {place: string; code: string}[];

const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (tf: object) => Promise<void>;

describe('The example at', () => {
  restoreBackendAfterwards();

  for (const {place, code} of DOC_EXAMPLES) {
    it(`${place} runs`, async () => {
      const spy = spyOn(console, 'log');
      await core.setBackend('cpu');
      const scope = core.engine();
      scope.startScope();
      await new AsyncFunction('tf', code)(tf);
      scope.endScope();
      // What an example logs stands in a comment behind it, where it is the same every time.
      const promised = [...code.matchAll(/console\.log\([^;]*\); \/\/ (\[.*)$/gm)].map(([, text]) => text);
      const logged = spy.calls.allArgs().map((args) => args.map((arg) => `[${arg}]`.replaceAll(',', ', ')).join(' '));
      if (promised.length > 0) expect(logged).toEqual(promised);
      // A recipe of the README may end with training.
      else expect(logged.length > 0 || (place.startsWith('README.md') && code.includes('await model.fit('))).toBeTrue();
    });
  }

  it('every public function is there', () => {
    const code = DOC_EXAMPLES.map((example) => example.code).join('\n');
    for (const name of [
      'flashAttention(',
      'flashAttentionWithLse(',
      'registerFlashBackend(',
      'BlockLayout.',
      'blockSparseMatMul(',
      'blockSparseSoftmax(',
      'pixelflyDense(',
      'layers.flashMultiHeadAttention(',
      'loadLayersModel(',
      'butterflyMultiply(',
      'monarchMatMul(',
      'monarchProject(',
      'monarchToDense(',
      'butterflyToDense(',
      'applyTransform(',
      'butterflyDense(',
      'kaleidoscopeDense(',
      'monarchDense(',
      'monarchDense.fromDense(',
      'readSafetensors(',
      'gpt2Files(',
      'loadGpt2(',
      'fusedLayerNorm(',
      'tokenEmbedding(',
      'positionEmbedding(',
      'layers.transformerBlock(',
      'gpt(',
      'fusedAdam(',
      'gelu(',
      'languageModelLoss(',
      'layerNorm(',
      'generate(',
      'generateTokens(',
      'pixelflyDense.fromDense(',
      'pixelflyProject(',
      'sparsify(',
      'useFlashAttention(',
      'registerFlashAttentionOp(',
    ]) {
      expect(code).toContain(`tf.${name}`);
    }
  });
});
