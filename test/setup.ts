/** Registers backends, gradients and the environments in which every spec runs. Bundled before all specs. */
import './share.js';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-backend-webgl';
import '@tensorflow/tfjs-backend-webgpu';
import {setTestEnvs, type TestEnv} from '@tensorflow/tfjs-core/dist/jasmine_util';
import './kept_devices.js';
import './small_tiles.js';
import '../src/index.js';

declare const TEST_ENVIRONMENTS: string[];

/** tfjs does small work on the host otherwise, and keeps small tensors out of textures: it would not be the backend. */
const ENVIRONMENTS: TestEnv[] = [
  {name: 'cpu', backendName: 'cpu', isDataSync: true},
  {name: 'webgpu', backendName: 'webgpu', flags: {WEBGPU_CPU_FORWARD: false}, isDataSync: true},
  {
    name: 'webgl2',
    backendName: 'webgl',
    flags: {
      WEBGL_VERSION: 2,
      WEBGL_CPU_FORWARD: false,
      WEBGL_SIZE_UPLOAD_UNIFORM: 0,
      // tfjs turns WebGL off on software GPUs, on which tests may have to run.
      SOFTWARE_WEBGL_ENABLED: true,
    },
    isDataSync: true,
  },
];

setTestEnvs(ENVIRONMENTS.filter(({name}) => TEST_ENVIRONMENTS.includes(name)));
