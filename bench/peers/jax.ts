/** `nn.dotProductAttention` of jax-js and its gradient, compiled by `jit`. */
import {defaultDevice, getWebGPUDevice, init, type Array as JaxArray, jit, nn, numpy, vjp} from '@jax-js/jax';
import type {AttentionProblem} from '../cases.js';
import type {InputValues} from '../page/inputs.js';
import type {Peer, PeerResults, PreparedPeer} from './peer.js';

const RESULT_NAMES = ['output', 'dq', 'dk', 'dv'];

export async function openJax(problem: AttentionProblem): Promise<Peer> {
  if (!(await init('webgpu')).includes('webgpu')) throw new Error('jax-js has no WebGPU device');
  defaultDevice('webgpu');
  return {device: getWebGPUDevice(), prepare: (values) => prepareJax(problem, values)};
}

function prepareJax(
  {pass, causal, batch, heads, sequence, depth}: AttentionProblem,
  values: InputValues,
): PreparedPeer {
  const attend = (q: JaxArray, k: JaxArray, v: JaxArray) => nn.dotProductAttention(q, k, v, {isCausal: causal});
  const forward = jit((q: JaxArray, k: JaxArray, v: JaxArray) => [attend(q, k, v)]);
  // The output is returned as well: a result that nobody wants would not be computed.
  const gradients = jit((q: JaxArray, k: JaxArray, v: JaxArray, weights: JaxArray) => {
    const [output, pullBack] = vjp(attend, [q, k, v]);
    const results = [output, ...(pullBack(weights) as JaxArray[])];
    pullBack.dispose();
    return results;
  });
  const upload = (given: Float32Array) =>
    numpy.array(given as Float32Array<ArrayBuffer>, {shape: [batch, sequence, heads, depth]});
  const [q, k, v, weights] = [values.q, values.k, values.v, values.weights].map(upload);
  // A function of jax-js takes its arguments away, all but further references to them.
  const compute = () =>
    pass === 'forward' ? forward(q.ref, k.ref, v.ref) : gradients(q.ref, k.ref, v.ref, weights.ref);
  return {
    call: async () => {
      const results = compute();
      // Work is handed to the GPU only when somebody asks for its result, and none is for one that is disposed before.
      for (const result of results) await result.ref.gpuBuffer();
      return namedResults(results);
    },
    dispose: () => {
      for (const input of [q, k, v, weights]) input.dispose();
    },
  };
}

function namedResults(results: JaxArray[]): PeerResults {
  const named = results.map((result, i) => {
    const read = async () => (await result.ref.data()) as Float32Array;
    return [RESULT_NAMES[i], {read, dispose: () => result.dispose()}] as const;
  });
  return Object.fromEntries(named);
}
