/** Backends without kernels of their own, for which tfjs's wasm backend stands: the same results and gradients. */

import {setWasmPaths} from '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';
import {chunkSize} from '../../kernels/fallback/query_chunks.js';
import {flashAttention} from '../../src/index.js';
import {expectAdamStepsRight} from '../adam_results.js';
import {type AttentionCase, attentionCases, describeCase} from '../attention_cases.js';
import {expectRight} from '../attention_results.js';
import {restoreBackendAfterwards} from '../backends.js';
import {expectProductRight, productCases} from '../block_sparse_results.js';
import {expectSoftmaxRight, softmaxCases} from '../block_sparse_softmax_results.js';
import {expectGeluRight, geluCases} from '../gelu_results.js';
import {cacheCases, expectCacheRight} from '../key_value_cache_results.js';
import {expectLossRight, lossCases} from '../language_model_loss_results.js';
import {expectLayerNormRight, layerNormCases} from '../layer_norm_results.js';
import {expectMonarchRight, monarchCases} from '../monarch_results.js';
import {expectRotaryRight, rotaryCases} from '../rotary_results.js';
import {expectTokenSumsRight, tokenSumsCases} from '../token_sums_results.js';

describe('On the wasm backend', () => {
  restoreBackendAfterwards();
  const size = {...chunkSize};
  beforeAll(async () => {
    setWasmPaths('/node_modules/@tensorflow/tfjs-backend-wasm/dist/');
    tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
    expect(await tf.setBackend('wasm')).toBe(true);
    // Several chunks of queries in every case.
    Object.assign(chunkSize, {scores: 1, minRows: 16});
  });
  afterAll(async () => {
    Object.assign(chunkSize, size);
    await tf.setBackend('cpu');
    tf.removeBackend('wasm');
  });

  for (const attentionCase of attentionCases.filter(isSmall)) {
    it(`flashAttention agrees with float64: ${describeCase(attentionCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectRight(attentionCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const softmaxCase of softmaxCases) {
    it(`blockSparseSoftmax agrees with float64: ${JSON.stringify(softmaxCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectSoftmaxRight(softmaxCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const productCase of productCases) {
    it(`blockSparseMatMul agrees with float64: ${JSON.stringify(productCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectProductRight(productCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const monarchCase of monarchCases) {
    it(`monarchMatMul agrees with float64: ${JSON.stringify(monarchCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectMonarchRight(monarchCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const cacheCase of cacheCases) {
    it(`KeyValueCache gives what causal attention gives: ${JSON.stringify(cacheCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectCacheRight(cacheCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  it('fusedAdam takes the steps of the paper', async () => {
    const {numTensors} = tf.memory();
    await expectAdamStepsRight();
    expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
  });

  for (const geluCase of geluCases) {
    it(`gelu agrees with float64: ${JSON.stringify(geluCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectGeluRight(geluCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const layerNormCase of layerNormCases) {
    it(`layerNorm agrees with float64: ${JSON.stringify(layerNormCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectLayerNormRight(layerNormCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const lossCase of lossCases) {
    it(`languageModelLoss agrees with float64: ${JSON.stringify(lossCase)}`, async () => {
      const {numTensors} = tf.memory();
      // tfjs on wasm adds up all terms of a sum one after the other.
      await expectLossRight(lossCase, 4e-6);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const tokenSumsCase of tokenSumsCases) {
    it(`sums by token agree with float64: ${JSON.stringify(tokenSumsCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectTokenSumsRight(tokenSumsCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  for (const rotaryCase of rotaryCases) {
    it(`rotary position embedding agrees with float64: ${JSON.stringify(rotaryCase)}`, async () => {
      const {numTensors} = tf.memory();
      await expectRotaryRight(rotaryCase);
      expect(tf.memory().numTensors).withContext('tensors leaked').toBe(numTensors);
    });
  }

  it('empty tensors give empty results', async () => {
    const q = tf.zeros<tf.Rank.R4>([1, 2, 0, 8]);
    const k = tf.zeros<tf.Rank.R4>([1, 2, 3, 8]);
    const output = flashAttention(q, k, k);
    expect(output.shape).toEqual([1, 2, 0, 8]);
    tf.dispose([q, k, output]);
  });
});

function isSmall({Sq, Sk}: AttentionCase): boolean {
  return Sq * Sk < 5000;
}
