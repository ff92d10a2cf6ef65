/**
 * Records compute pipelines of our own into tfjs's command stream. tfjs's WebGPUProgram has one output and loses the
 * uniformity of built-ins, so attention kernels bring their own pipelines and bind groups; this file is the only place
 * that knows how they get between tfjs's dispatches.
 */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {env, type TensorInfo} from '@tensorflow/tfjs-core';

import {assertAlive} from './device_lost.js';
import type {Shader} from './shader.js';
import {UniformBuffers} from './uniform_buffers.js';

/** One dispatch: the tensors of the shader's bindings by name, and its uniforms. */
export interface Dispatch {
  /** Identifies the shader's code; shaders are generated once per key and device. */
  key: string;
  makeShader: () => Shader;
  tensors: Readonly<Record<string, TensorInfo | undefined>>;
  uniforms: ArrayBuffer;
  workgroups: number;
}

interface Pipeline {
  shader: Shader;
  pipeline: GPUComputePipeline;
  layout: GPUBindGroupLayout;
}

interface OfDevice {
  pipelines: Map<string, Pipeline>;
  uniformBuffers: UniformBuffers;
}

const devices = new WeakMap<GPUDevice, OfDevice>();

function ofDevice(device: GPUDevice): OfDevice {
  const known = devices.get(device);
  if (known) return known;
  const made = {pipelines: new Map<string, Pipeline>(), uniformBuffers: new UniformBuffers(device)};
  devices.set(device, made);
  return made;
}

export function dispatch(backend: WebGPUBackend, call: Dispatch): void {
  assertAlive(backend.device);
  const {shader, pipeline, layout} = pipelineFor(backend.device, call.key, call.makeShader);
  const tensors = shader.bindings.map(({name}) => {
    const tensor = call.tensors[name];
    if (!tensor) throw new Error(`Shader ${call.key} needs a tensor '${name}'.`);
    return tensor;
  });
  for (const {dataId} of tensors) backend.uploadToGPU(dataId);

  const kept = ofDevice(backend.device).uniformBuffers.find(call.uniforms);
  const uniforms = kept ?? writtenBuffer(backend, call.uniforms);
  const buffers = [...tensors.map(({dataId}) => backend.tensorMap.get(dataId).resource as GPUBuffer), uniforms];
  const bindGroup = backend.device.createBindGroup({
    layout,
    entries: buffers.map((buffer, binding) => ({binding, resource: {buffer}})),
  });
  record(backend, tensors, kept ? undefined : uniforms, (pass) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bindGroup);
    pass.dispatchWorkgroups(...workgroupGrid(call.workgroups, backend.device.limits.maxComputeWorkgroupsPerDimension));
  });
}

/** Records copies from one tensor's buffer into another's: after all that is recorded so far, before all that follows. */
export function copy(
  backend: WebGPUBackend,
  source: TensorInfo,
  target: TensorInfo,
  commands: (encoder: GPUCommandEncoder, source: GPUBuffer, target: GPUBuffer) => void,
): void {
  assertAlive(backend.device);
  const tensors = [source, target];
  for (const {dataId} of tensors) backend.uploadToGPU(dataId);
  const [from, to] = tensors.map(({dataId}) => backend.tensorMap.get(dataId).resource as GPUBuffer);
  const open = openPassOf(backend);
  if (!open) {
    encodeAndSubmit(backend, (encoder) => commands(encoder, from, to));
    return;
  }
  for (const {dataId} of tensors) open.commandQueueOwnedIds.add(dataId);
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  commands(open.commandEncoder as GPUCommandEncoder, from, to);
}

/** A buffer out of tfjs's pool, to be given back to it. */
function writtenBuffer({bufferManager, queue}: WebGPUBackend, contents: ArrayBuffer): GPUBuffer {
  const buffer = bufferManager.acquireBuffer(contents.byteLength, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
  queue.writeBuffer(buffer, 0, contents);
  return buffer;
}

/** A grid of at least `count` workgroups that respects the limit per dimension; shaders leave out the surplus. */
export function workgroupGrid(count: number, limit: number): [number, number] {
  const rows = Math.ceil(count / limit);
  return [Math.ceil(count / rows), rows];
}

function pipelineFor(device: GPUDevice, key: string, make: () => Shader): Pipeline {
  const {pipelines} = ofDevice(device);
  const known = pipelines.get(key);
  if (known) return known;
  const shader = make();
  const types: GPUBufferBindingType[] = [
    ...shader.bindings.map(({access}) => (access === 'read' ? ('read-only-storage' as const) : ('storage' as const))),
    'uniform',
  ];
  // An explicit layout, because 'auto' leaves out bindings that a variant of the code happens not to touch.
  const layout = device.createBindGroupLayout({
    label: key,
    entries: types.map((type, binding) => ({binding, visibility: GPUShaderStage.COMPUTE, buffer: {type}})),
  });
  const pipeline = device.createComputePipeline({
    label: key,
    layout: device.createPipelineLayout({bindGroupLayouts: [layout]}),
    compute: {module: device.createShaderModule({label: key, code: shader.code}), entryPoint: 'main'},
  });
  const made = {shader, pipeline, layout};
  pipelines.set(key, made);
  return made;
}

/** The members with which tfjs batches dispatches into one open pass. Private, so they are checked before use. */
interface OpenPass {
  commandEncoder: GPUCommandEncoder | null;
  computePassEncoder: GPUComputePassEncoder | null;
  commandQueueOwnedIds: WeakSet<object>;
  dispatchCountInPass: number;
  uniformPendingDisposal: GPUBuffer[];
}

function openPassOf(backend: WebGPUBackend): OpenPass | null {
  const members: object = backend;
  const known =
    'commandEncoder' in members &&
    'computePassEncoder' in members &&
    'commandQueueOwnedIds' in members &&
    'dispatchCountInPass' in members &&
    'uniformPendingDisposal' in members &&
    members.commandQueueOwnedIds instanceof WeakSet &&
    typeof members.dispatchCountInPass === 'number' &&
    Array.isArray(members.uniformPendingDisposal);
  return known ? (members as OpenPass) : null;
}

/** @param pooled the buffer of uniforms that goes back to tfjs's pool, if there is one. */
function record(
  backend: WebGPUBackend,
  tensors: TensorInfo[],
  pooled: GPUBuffer | undefined,
  commands: (pass: GPUComputePassEncoder) => void,
): void {
  const open = openPassOf(backend);
  if (open) recordIntoOpenPass(backend, open, tensors, pooled, commands);
  else recordAndSubmit(backend, pooled, commands);
}

/** As tfjs records its own programs: buffers freed before the batch is submitted are kept until then. */
function recordIntoOpenPass(
  backend: WebGPUBackend,
  open: OpenPass,
  tensors: TensorInfo[],
  pooled: GPUBuffer | undefined,
  commands: (pass: GPUComputePassEncoder) => void,
): void {
  for (const {dataId} of tensors) open.commandQueueOwnedIds.add(dataId);
  if (pooled) open.uniformPendingDisposal.push(pooled);
  backend.ensureCommandEncoderReady();
  open.computePassEncoder ??= (open.commandEncoder as GPUCommandEncoder).beginComputePass();
  commands(open.computePassEncoder);
  open.dispatchCountInPass++;
  if (open.dispatchCountInPass >= env().getNumber('WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE')) {
    backend.endComputePassEncoder();
    backend.submitQueue();
  }
}

/** The public way, for a tfjs whose private members have changed: one submission per dispatch. */
function recordAndSubmit(
  backend: WebGPUBackend,
  pooled: GPUBuffer | undefined,
  commands: (pass: GPUComputePassEncoder) => void,
): void {
  encodeAndSubmit(backend, (encoder) => {
    const pass = encoder.beginComputePass();
    commands(pass);
    pass.end();
  });
  if (pooled) backend.bufferManager.releaseBuffer(pooled);
}

/** Submits commands after what tfjs has recorded. */
function encodeAndSubmit(backend: WebGPUBackend, commands: (encoder: GPUCommandEncoder) => void): void {
  backend.ensureCommandEncoderReady();
  backend.endComputePassEncoder();
  backend.submitQueue();
  const encoder = backend.device.createCommandEncoder();
  commands(encoder);
  backend.queue.submit([encoder.finish()]);
}
