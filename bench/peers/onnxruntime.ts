/** The attention ops of onnxruntime-web on its WebGPU execution provider: models of one node, GPU buffers in and out. */
import * as ort from 'onnxruntime-web/webgpu';
import type {AttentionProblem} from '../cases.js';
import type {InputValues} from '../page/inputs.js';
import {groupQueryAttention, multiHeadAttention} from './attention_models.js';
import type {Peer, PeerResults, PreparedPeer} from './peer.js';

/** Served beside the page. */
const WASM_URL = '/ort-wasm-simd-threaded.asyncify.wasm';

export async function openOnnxruntime(problem: AttentionProblem): Promise<Peer> {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = {wasm: WASM_URL};
  const model = problem.causal ? groupQueryAttention(problem.heads) : multiHeadAttention(problem.heads);
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ['webgpu'],
    preferredOutputLocation: 'gpu-buffer',
    // An op that WebGPU does not take would run on the CPU without a word.
    extra: {session: {disable_cpu_ep_fallback: '1'}},
  });
  const device = await ort.env.webgpu.device;
  return {device, prepare: (values) => prepareOnnxruntime(session, device, problem, values)};
}

function prepareOnnxruntime(
  session: ort.InferenceSession,
  device: GPUDevice,
  {causal, batch, heads, sequence, depth}: AttentionProblem,
  {q, k, v}: InputValues,
): PreparedPeer {
  const buffers = [q, k, v].map((values) => filledBuffer(device, values));
  const [query, key, value] = buffers.map((buffer) =>
    ort.Tensor.fromGpuBuffer(buffer, {dataType: 'float32', dims: [batch, sequence, heads * depth]}),
  );
  const lengths = {
    lastKey: new ort.Tensor('int32', new Int32Array(batch).fill(sequence - 1), [batch]),
    keys: new ort.Tensor('int32', Int32Array.of(sequence), []),
  };
  const feeds = {query, key, value, ...(causal && lengths)};
  return {
    call: async () => namedResults(await session.run(feeds)),
    dispose: () => {
      for (const buffer of buffers) buffer.destroy();
    },
  };
}

function filledBuffer(device: GPUDevice, values: Float32Array): GPUBuffer {
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const buffer = device.createBuffer({size: values.byteLength, usage});
  device.queue.writeBuffer(buffer, 0, values as Float32Array<ArrayBuffer>);
  return buffer;
}

function namedResults(results: ort.InferenceSession.OnnxValueMapType): PeerResults {
  const named = Object.entries(results).map(([name, value]) => {
    const tensor = value as ort.Tensor;
    const read = async () => (await tensor.getData()) as Float32Array;
    return [name, {read, dispose: () => tensor.dispose()}] as const;
  });
  return Object.fromEntries(named);
}
