/** flashAttention against implementations by others: MultiHeadAttention and GroupQueryAttention of onnxruntime-web, on wasm. */
import * as tf from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-web/wasm';
import {groupQueryAttention, multiHeadAttention} from '../../bench/peers/attention_models.js';
import {flashAttention} from '../../src/index.js';
import type {AttentionCase} from '../attention_cases.js';
import {makeInputs, opOptions, toTensor} from '../attention_inputs.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const base: AttentionCase = {B: 2, H: 3, Hk: 3, Sq: 37, Sk: 53, D: 16, Dv: 16, order: 'BSHD'};
const cases: Record<string, AttentionCase> = {
  'plain attention': base,
  'one query': {...base, Sq: 1, Sk: 65},
  'Dv ≠ D': {...base, Dv: 24},
  'an additive bias and a scale': {...base, bias: 'HQK', scale: 0.5},
  'a causal mask': {...base, Sk: base.Sq, causal: true},
};

describeOnBackends('onnxruntime-web agrees about', () => {
  beforeAll(() => {
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = '/node_modules/onnxruntime-web/dist/';
  });

  for (const [name, attentionCase] of Object.entries(cases)) {
    it(name, async () => {
      const inputs = makeInputs(attentionCase);
      const [q, k, v] = [inputs.q, inputs.k, inputs.v].map((t) => toTensor(t) as tf.Tensor4D);
      const output = flashAttention(q, k, v, opOptions(attentionCase, inputs));
      expectWithin('output', await output.data(), await peerAttention(attentionCase, inputs), 0);
      tf.dispose([q, k, v, output]);
    });
  }
});

/** [B, Sq, H·Dv] */
async function peerAttention(
  {B, H, Sq, Sk, D, Dv, bias, scale, causal}: AttentionCase,
  inputs: ReturnType<typeof makeInputs>,
): Promise<Float32Array> {
  const withBias = bias !== undefined;
  const session = await ort.InferenceSession.create(causal ? groupQueryAttention(H) : multiHeadAttention(H, withBias));
  // The op's own attribute for it is a float; scaling the queries comes to the same.
  const queries = inputs.q.values.map((value) => value * (scale ?? 1 / Math.sqrt(D)) * Math.sqrt(D));
  const feeds = {
    query: new ort.Tensor('float32', queries, [B, Sq, H * D]),
    key: new ort.Tensor('float32', inputs.k.values, [B, Sk, H * D]),
    value: new ort.Tensor('float32', inputs.v.values, [B, Sk, H * Dv]),
    ...(withBias && {
      attentionBias: new ort.Tensor('float32', (inputs.bias as {values: Float32Array}).values, [1, H, Sq, Sk]),
    }),
    ...(causal && {
      lastKey: new ort.Tensor('int32', new Int32Array(B).fill(Sk - 1), [B]),
      keys: new ort.Tensor('int32', Int32Array.of(Sk), []),
    }),
  };
  const {output} = await session.run(feeds);
  await session.release();
  return output.data as Float32Array;
}
