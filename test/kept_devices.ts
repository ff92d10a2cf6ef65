/**
 * One WebGPU device and one WebGL context for all suites. tfjs's `describeWithFlags` makes a backend for each suite, and
 * its factories a device for each backend, on which every shader would be compiled anew: in software, most of what a spec
 * takes. A page's one backend compiles a shader once, and so do these specs.
 */
import {GPGPUContext, MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import {findBackendFactory, registerBackend, removeBackend} from '@tensorflow/tfjs-core';

type BackendFactory = ReturnType<typeof findBackendFactory>;

let device: GPUDevice | undefined;
/** Of tfjs's own programs, which each backend would keep for itself. */
let pipelineCache = {};

async function makeOnKeptDevice(makeOnNewDevice: BackendFactory): Promise<WebGPUBackend> {
  if (device) return Object.assign(new WebGPUBackend(device, device.adapterInfo), {pipelineCache});
  const backend = (await makeOnNewDevice()) as WebGPUBackend;
  pipelineCache = {};
  device = backend.device;
  // A suite that loses its device leaves a new one to the next.
  void device.lost.then(() => {
    device = undefined;
  });
  return Object.assign(backend, {pipelineCache});
}

let context: GPGPUContext | undefined;
const binaryCache = {};

function makeOnKeptContext(): MathBackendWebGL {
  context ??= new GPGPUContext();
  return Object.assign(new MathBackendWebGL(context), {binaryCache});
}

const webgpuFactory: BackendFactory | null = findBackendFactory('webgpu');
if (webgpuFactory) {
  removeBackend('webgpu');
  registerBackend('webgpu', () => makeOnKeptDevice(webgpuFactory), 3);
}
removeBackend('webgl');
registerBackend('webgl', makeOnKeptContext, 2);
