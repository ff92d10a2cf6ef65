/** Measures a peer as the page measures tfjs: memory of the first call, its answer, then the time of many. */
import type {AttentionProblem, PeerName} from '../cases.js';
import type {Measurement} from '../measurement.js';
import {type Answers, checkForward, checkGradients, checkKeyGradients, sparseWeights} from '../page/answer_check.js';
import {requestAdapter} from '../page/backend.js';
import {countWebgpuBuffers, type PeakBytes, pageBytes} from '../page/gpu_bytes.js';
import {type GpuFaults, watchWebgpu} from '../page/gpu_faults.js';
import {type InputValues, randomInputs} from '../page/inputs.js';
import {timeCalls} from '../page/timing.js';
import {headOfBSHD, toBSHD} from './head_order.js';
import {openJax} from './jax.js';
import {openOnnxruntime} from './onnxruntime.js';
import type {OpenPeer, Peer, PeerResults} from './peer.js';

const openers: Record<PeerName, OpenPeer> = {onnxruntime: openOnnxruntime, jax: openJax};

export type PeerProblem = AttentionProblem & {contender: PeerName};

export interface StartedPeer {
  peer: Peer;
  faults: GpuFaults;
  bytes: PeakBytes;
}

export async function startPeer(problem: PeerProblem): Promise<StartedPeer> {
  const {info} = await requestAdapter();
  countWebgpuBuffers();
  const peer = await openers[problem.contender](problem);
  refuseOtherAdapter(peer.device.adapterInfo, info);
  return {peer, faults: watchWebgpu(peer.device), bytes: pageBytes()};
}

/** A peer asks for an adapter in its own words, and may be given another than the one that the results name. */
function refuseOtherAdapter(ofPeer: GPUAdapterInfo, expected: GPUAdapterInfo): void {
  const [found, wanted] = [ofPeer, expected].map((info) => `${info.vendor} ${info.architecture}`);
  if (found !== wanted) throw new Error(`it runs on the adapter ${found}, not ${wanted}`);
}

export async function measurePeer({peer, faults, bytes}: StartedPeer, problem: PeerProblem): Promise<Measurement> {
  const values = randomInputs(problem);
  const {call} = await peer.prepare(reordered(values, problem));
  await faults.check();
  bytes.startCount();

  const results = await call();
  await faults.check();
  const peakBytes = bytes.peakBytes();

  const answers = await takeAnswers(results, problem);
  const errors =
    problem.pass === 'forward'
      ? await checkForward(problem, values, answers)
      : {...(await checkGradients(problem, values, answers)), ...(await keyGradientErrors(peer, problem, values))};

  const run = async (calls: number) => {
    for (let i = 0; i < calls; i++) dispose(await call());
    await peer.device.queue.onSubmittedWorkDone();
  };
  const timing = problem.timed ? await timeCalls(run) : {};
  await faults.check();
  return {...timing, peakBytes, errors};
}

async function keyGradientErrors(peer: Peer, problem: PeerProblem, values: InputValues) {
  const weights = sparseWeights(problem, values.weights);
  const sparse = await peer.prepare(reordered({...values, weights}, problem));
  const answers = await takeAnswers(await sparse.call(), problem);
  sparse.dispose();
  return checkKeyGradients(problem, values, answers);
}

function reordered({q, k, v, weights}: InputValues, problem: PeerProblem): InputValues {
  const [ofQ, ofK, ofV, ofWeights] = [q, k, v, weights].map((values) => toBSHD(values, problem));
  return {q: ofQ, k: ofK, v: ofV, weights: ofWeights};
}

/** Reads the results and disposes them. */
async function takeAnswers(results: PeerResults, problem: PeerProblem): Promise<Answers> {
  const answers: Answers = {};
  for (const [name, tensor] of Object.entries(results)) {
    const values = await tensor.read();
    answers[name] = async (place) => headOfBSHD(values, problem, place);
  }
  dispose(results);
  return answers;
}

function dispose(results: PeerResults): void {
  for (const tensor of Object.values(results)) tensor.dispose();
}
