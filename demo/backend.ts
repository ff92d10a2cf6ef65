/** Starts the backend that the person chose, and tells when its GPU fails. */
import '@tensorflow/tfjs-backend-webgpu';
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {nextTask} from '../src/generation/next_task.js';
import * as tf from '../src/tf.js';
import {pause} from './dom.js';
import {MemoryMeter} from './memory_meter.js';
import {GpuLoss, Problem, reasonOfReport} from './problem.js';

export const backendLabels = {webgpu: 'WebGPU', webgl: 'WebGL', cpu: 'CPU'} as const;
export type BackendName = keyof typeof backendLabels;

/** Told of a failure of the GPU, after which the numbers on it mean nothing. */
export type FailureListener = (problem: Problem) => void;

/** What this browser offers. */
export interface Offer {
  webgpu: boolean;
  webgl: boolean;
  /** Whether the GPU is a program on the processor, and so about a thousand times slower. */
  software: boolean;
}

export const memoryMeter = new MemoryMeter();

/** Who is told now; one device serves many trainings. */
let listener: FailureListener = () => {};
const watched = new WeakSet<object>();
/** The WebGL backend whose context was lost. */
let lostWebgl: tf.KernelBackend | undefined;
/** Whether a context ever was; what tfjs asks of that one goes on for ever. */
let webglWasLost = false;

/** Milliseconds within which the GPU reports what made an operation fail. */
const REPORT_DELAY = 100;

const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;

export async function offerOfBrowser(): Promise<Offer> {
  const gl = document.createElement('canvas').getContext('webgl2');
  const names = gl?.getExtension('WEBGL_debug_renderer_info');
  const renderer = gl ? String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : '';
  const adapter = await navigator.gpu?.requestAdapter({powerPreference: 'high-performance'}).catch(() => null);
  const info = adapter?.info;
  const described = info ? `${info.vendor} ${info.architecture} ${info.device} ${info.description}` : renderer;
  return {webgpu: Boolean(adapter), webgl: Boolean(gl), software: SOFTWARE.test(described)};
}

/** Makes the backend the active one, or where it cannot run here the next best; resolves to the one that runs. */
export async function startBackend(preferred: BackendName, onFailure: FailureListener): Promise<BackendName> {
  listener = onFailure;
  // Without it tfjs refuses a WebGL that is drawn in software; slow, but it works.
  tf.env().set('SOFTWARE_WEBGL_ENABLED', true);
  askInHiddenTabsToo();
  if (lostWebgl) restartWebgl();
  const name = await tf.registerFlashBackend({preferred, onDeviceLost: ({message}) => listener(lost(message))});
  const backend = tf.backend();
  if (!watched.has(backend)) {
    watched.add(backend);
    memoryMeter.watch(backend);
    if (name === 'webgpu') watchWebgpu(backend as WebGPUBackend);
    if (name === 'webgl') watchWebgl(backend as MathBackendWebGL);
  }
  return name;
}

function lost(message: string): Problem {
  const why = message ? ` (${message.replace(/\.$/, '')})` : '';
  return new GpuLoss(`The GPU was lost${why}.`);
}

/** WebGPU does not throw on errors; after one, the numbers that come back mean nothing. */
function watchWebgpu({device}: WebGPUBackend): void {
  device.addEventListener('uncapturederror', ({error}) => listener(new Problem(reasonOfReport(error))));
}

function watchWebgl(backend: MathBackendWebGL): void {
  backend.getGPGPUContext().gl.canvas.addEventListener('webglcontextlost', () => {
    lostWebgl = backend;
    webglWasLost = true;
    listener(lost('the browser took the WebGL context away'));
  });
}

/** Resolves when the listener has been told of what the GPU reports after an error, which comes a little later. */
export function reportOfGpu(): Promise<void> {
  return pause(REPORT_DELAY);
}

/** Whether WebGL, where that computes, has run out of memory since this was asked last: it tells of that only when asked. */
export function webglRanOutOfMemory(): boolean {
  if (tf.getBackend() !== 'webgl') return false;
  const {gl} = (tf.backend() as MathBackendWebGL).getGPGPUContext();
  const errors: number[] = [];
  // Each kind is told once; a lost context says the same for ever on some browsers.
  for (let error = gl.getError(); error !== gl.NO_ERROR && !errors.includes(error); error = gl.getError()) {
    errors.push(error);
  }
  return errors.includes(gl.OUT_OF_MEMORY);
}

/**
 * tfjs asks again and again whether WebGL has computed, by timers. In hidden tabs these wait for a second, and later for a
 * minute, so there it asks as often as the page's other tasks let it, unless it might do so for ever.
 */
function askInHiddenTabsToo(): void {
  tf.env().platform.setTimeoutCustom = (ask, delay) => {
    if (document.hidden && !webglWasLost) void nextTask().then(() => ask());
    else setTimeout(ask, delay);
  };
}

/** A lost context never comes back; tfjs makes a new one for a new backend. */
function restartWebgl(): void {
  const factory = tf.findBackendFactory('webgl');
  tf.removeBackend('webgl');
  tf.registerBackend('webgl', factory, 2);
  lostWebgl = undefined;
}
