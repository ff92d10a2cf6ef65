/** `registerFlashBackend`: starts tfjs on a WebGPU device with all that the adapter offers, or on the next best backend. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {
  engine,
  findBackendFactory,
  registerBackend,
  removeBackend,
  setBackend,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import {assertAlive, isLost, watchDevice} from '../kernels/webgpu/device_lost.js';
import {findHalfMatrices} from '../kernels/webgpu/half_support.js';

/** The backends that {@link registerFlashBackend} chooses from, best first. */
const BACKENDS = ['webgpu', 'webgl', 'cpu'] as const;

export type FlashBackendName = (typeof BACKENDS)[number];

export interface FlashBackendOptions {
  /** Tried before the others, which follow in the order webgpu, webgl, cpu. Default 'webgpu'. */
  preferred?: FlashBackendName;
  /**
   * Called once if the WebGPU device is lost while tfjs uses it (driver reset, GPU removed, out of memory). Without it
   * the loss is an unhandled promise rejection.
   */
  onDeviceLost?: (info: GPUDeviceLostInfo) => void;
}

/**
 * Starts tfjs on the best backend there is. For WebGPU it asks the adapter (powerPreference 'high-performance') for a
 * device with every feature and every limit it offers, where tfjs asks for two features and six limits, and registers
 * that device as tfjs's 'webgpu' backend (priority 3). Where WebGPU is missing (no navigator.gpu, no adapter, no
 * device, or the package @tensorflow/tfjs-backend-webgpu is not loaded) it goes on to webgl, then cpu.
 *
 * Call it before anything is on the GPU. Calling it again is harmless, and after a lost device it starts a new one:
 * tensors that were only on the lost one are gone.
 *
 * A lost device never passes for zeros: `onDeviceLost` or an unhandled rejection tells of it, and from then on every op
 * and every read from the GPU throws or rejects.
 *
 * ```js
 * const name = await tf.registerFlashBackend({onDeviceLost: ({message}) => console.error(message)});
 * console.log(name, name === tf.getBackend()); // 'webgpu', 'webgl' or 'cpu', and true
 * ```
 *
 * @param options see {@link FlashBackendOptions}.
 * @returns the name of the backend that is active now.
 * @throws Error if a 'webgpu' backend already holds tensors (they would be lost), if `preferred` is no backend's name,
 *   or if no backend starts.
 */
export async function registerFlashBackend(options: FlashBackendOptions = {}): Promise<FlashBackendName> {
  const {preferred = 'webgpu', onDeviceLost} = options;
  if (!BACKENDS.includes(preferred)) {
    throw new Error(`registerFlashBackend: preferred must be one of ${BACKENDS.join(', ')}, got '${preferred}'.`);
  }
  for (const name of new Set([preferred, ...BACKENDS])) {
    const started = name === 'webgpu' ? await startWebGPU(onDeviceLost) : await start(name);
    if (started) return name;
  }
  throw new Error(
    'registerFlashBackend: no backend could be started. Load @tensorflow/tfjs, or one of ' +
      '@tensorflow/tfjs-backend-webgpu, @tensorflow/tfjs-backend-webgl and @tensorflow/tfjs-backend-cpu, first.',
  );
}

async function start(name: FlashBackendName): Promise<boolean> {
  return findBackendFactory(name) !== null && (await setBackend(name));
}

type OnDeviceLost = FlashBackendOptions['onDeviceLost'];

/** The devices made here, and whom to tell of their loss. */
const lossListeners = new WeakMap<GPUDevice, OnDeviceLost>();

async function startWebGPU(onDeviceLost: OnDeviceLost): Promise<boolean> {
  const running = webgpuBackend()?.device;
  if (running) watchDevice(running);
  if (running && lossListeners.has(running) && !isLost(running)) {
    if (onDeviceLost) lossListeners.set(running, onDeviceLost);
    return setBackend('webgpu');
  }
  const gpu = globalThis.navigator?.gpu;
  const Backend = gpu && (await webgpuBackendClass());
  const opened = Backend && (await openDevice(gpu));
  if (!opened) return false;
  // No `await` between this check and the replacement, so that no tensor can come between them.
  refuseToLoseTensors(opened.device);
  if (findBackendFactory('webgpu')) removeBackend('webgpu');
  registerBackend('webgpu', () => new Backend(opened.device, opened.info), 3);
  lossListeners.set(opened.device, onDeviceLost);
  surfaceLoss(opened.device);
  return setBackend('webgpu');
}

/** tfjs's WebGPU backend if it runs; `tf.findBackend` would start it. */
function webgpuBackend(): WebGPUBackend | undefined {
  return engine().registry.webgpu as WebGPUBackend | undefined;
}

function refuseToLoseTensors(unusedDevice: GPUDevice): void {
  const backend = webgpuBackend();
  if (!backend || isLost(backend.device) || backend.numDataIds() === 0) return;
  unusedDevice.destroy();
  throw new Error(
    `registerFlashBackend: the running 'webgpu' backend holds tensors (${backend.numDataIds()}), which would be lost ` +
      'with its device. Call registerFlashBackend() before making tensors or loading models, or dispose them first.',
  );
}

/**
 * Tells of the loss of a device that tfjs still uses; one whose backend was removed is let go in silence. The promise
 * is left without a handler on purpose: what it rejects with must reach the page.
 */
function surfaceLoss(device: GPUDevice): void {
  watchDevice(device);
  void device.lost.then((info) => {
    if (webgpuBackend()?.device !== device) return;
    const onDeviceLost = lossListeners.get(device);
    if (onDeviceLost) return onDeviceLost(info);
    throw new Error(
      `The WebGPU device of the 'webgpu' backend was lost (${info.reason}): ${info.message} ` +
        'Tensors on it are gone; registerFlashBackend() starts a new one.',
    );
  });
}

interface OpenedDevice {
  device: GPUDevice;
  info: GPUAdapterInfo;
}

/** Browsers may offer experimental features that they then cannot give; the later choices do without. */
const FEATURE_CHOICES: ReadonlyArray<(feature: string) => boolean> = [
  () => true,
  (feature) => !feature.includes('experimental'),
  () => false,
];

async function openDevice(gpu: GPU): Promise<OpenedDevice | null> {
  for (const isWanted of FEATURE_CHOICES) {
    // Anew each time, because an adapter makes one device only.
    const adapter = await gpu.requestAdapter({powerPreference: 'high-performance'});
    if (!adapter) return null;
    const requiredFeatures = ([...adapter.features] as GPUFeatureName[]).filter(isWanted);
    try {
      const device = await adapter.requestDevice({requiredFeatures, requiredLimits: limitsOf(adapter)});
      await findHalfMatrices(device);
      return {device, info: adapter.info};
    } catch (error) {
      console.warn(`registerFlashBackend: no WebGPU device with the features [${requiredFeatures}]:`, error);
    }
  }
  return null;
}

function limitsOf({limits}: GPUAdapter): Record<string, number> {
  const values: Record<string, number> = {};
  // The limits are getters of the prototype, which only for…in visits.
  for (const name in limits) {
    const value = limits[name as keyof GPUSupportedLimits];
    if (typeof value === 'number') values[name] = value;
  }
  return values;
}

type WebGPUBackendClass = new (device: GPUDevice, adapterInfo?: GPUAdapterInfo) => WebGPUBackend;

/** Kept, because after the first registration tfjs's own factory is gone. */
let backendClass: WebGPUBackendClass | undefined;

/**
 * The class that the app's own copy of @tensorflow/tfjs-backend-webgpu registered with tfjs, so that this package needs
 * no copy. Undefined where that package is not loaded or cannot start.
 */
async function webgpuBackendClass(): Promise<WebGPUBackendClass | undefined> {
  if (backendClass) return backendClass;
  const running = webgpuBackend();
  if (running) {
    backendClass = refusingLostDevice(running.constructor as WebGPUBackendClass);
    return backendClass;
  }
  try {
    const made = findBackendFactory('webgpu')?.();
    const probe = (await made) as WebGPUBackend | undefined;
    if (!probe) return undefined;
    probe.dispose();
    // tfjs's factory makes a device for each backend; one that answers at once gave a device that the app may share.
    if (made instanceof Promise) probe.device.destroy();
    backendClass = refusingLostDevice(probe.constructor as WebGPUBackendClass);
  } catch (error) {
    console.warn('registerFlashBackend: the WebGPU backend of tfjs does not start:', error);
  }
  return backendClass;
}

/** tfjs's backend goes on after its device is lost, and `dataSync` then gives zeros; this one throws. */
function refusingLostDevice(Backend: WebGPUBackendClass): WebGPUBackendClass {
  return class extends Backend {
    override uploadToGPU(dataId: TensorInfo['dataId']): void {
      assertAlive(this.device);
      super.uploadToGPU(dataId);
    }

    override readSync(dataId: TensorInfo['dataId']): ReturnType<WebGPUBackend['readSync']> {
      const isOnHost = this.tensorMap.get(dataId).values != null;
      if (!isOnHost) assertAlive(this.device);
      return super.readSync(dataId);
    }
  };
}
