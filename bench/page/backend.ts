/** Opens the backend of a case, and describes the GPU behind it. */
import '@tensorflow/tfjs-backend-webgl';
import '@tensorflow/tfjs-backend-webgpu';
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import {registerFlashBackend} from '../../src/index.js';
import type {BackendName} from '../cases.js';
import type {AdapterDescription} from '../measurement.js';
import {countWebgpuBuffers, type GpuBytes, webglBytes, webgpuBytes} from './gpu_bytes.js';
import {type GpuFaults, watchWebgl, watchWebgpu} from './gpu_faults.js';

export interface OpenBackend {
  faults: GpuFaults;
  bytes: GpuBytes;
  /** Takes a tensor that was made from values, and gives one whose values lie on the GPU. */
  moveToGpu<T extends tf.Tensor>(tensor: T): T;
}

export function openBackend(name: BackendName, stockDevice: boolean): Promise<OpenBackend> {
  return name === 'webgl' ? openWebglBackend() : openWebgpuBackend(stockDevice);
}

async function openWebgpuBackend(stockDevice: boolean): Promise<OpenBackend> {
  await requestAdapter();
  countWebgpuBuffers();
  await activate('webgpu', () => (stockDevice ? tf.setBackend('webgpu') : registerWebgpu()));
  const backend = tf.backend() as WebGPUBackend;
  const moveToGpu = <T extends tf.Tensor>(tensor: T) => {
    backend.uploadToGPU(tensor.dataId);
    return tensor;
  };
  return {faults: watchWebgpu(backend.device), bytes: webgpuBytes(backend), moveToGpu};
}

async function openWebglBackend(): Promise<OpenBackend> {
  // Without it tfjs refuses a WebGL that is drawn in software.
  tf.env().set('SOFTWARE_WEBGL_ENABLED', true);
  await activate('webgl', () => tf.setBackend('webgl'));
  const backend = tf.backend() as MathBackendWebGL;
  return {faults: watchWebgl(backend), bytes: webglBytes(backend), moveToGpu: packOnWebgl};
}

/**
 * The result of an op has the packed layout in which a model's activations arrive. What that op leaves behind is
 * deleted, not pooled, lest the case reuse it uncounted.
 */
function packOnWebgl<T extends tf.Tensor>(tensor: T): T {
  tf.env().set('WEBGL_DELETE_TEXTURE_THRESHOLD', 0);
  const packed: T = tf.mul(tensor, 1);
  tensor.dispose();
  tf.env().set('WEBGL_DELETE_TEXTURE_THRESHOLD', -1);
  return packed;
}

async function activate(name: BackendName, choose: () => Promise<boolean>): Promise<void> {
  if (!(await choose())) throw new Error(`the backend ${name} could not be started`);
  await tf.ready();
}

async function registerWebgpu(): Promise<boolean> {
  return (await registerFlashBackend({preferred: 'webgpu'})) === 'webgpu';
}

export async function describeAdapter(): Promise<AdapterDescription> {
  const webglRenderer = openWebgl();
  const {info} = await requestAdapter();
  const adapter: Record<string, string> = {};
  // The attributes lie on the prototype, and which there are depends on the browser and its flags.
  for (const key in info) {
    const value: unknown = Reflect.get(info, key);
    if (typeof value === 'string' && value !== '') adapter[key] = value;
  }
  return {adapter, webglRenderer};
}

/** A fresh browser's first request may fail while its GPU process is still starting, so it is tried again. */
export async function requestAdapter(): Promise<GPUAdapter> {
  if (!navigator.gpu) throw new Error('this browser has no WebGPU');
  openWebgl();
  for (let attempt = 0; attempt < 5; attempt++) {
    const adapter = await navigator.gpu.requestAdapter({powerPreference: 'high-performance'}).catch(() => null);
    if (adapter) return adapter;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  throw new Error('this browser gives no WebGPU adapter');
}

/** Makes a WebGL context, which wakes the GPU process, and returns the name of its renderer. */
function openWebgl(): string {
  const gl = document.createElement('canvas').getContext('webgl2');
  if (!gl) throw new Error('this browser has no WebGL 2');
  const names = gl.getExtension('WEBGL_debug_renderer_info');
  return String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
}
