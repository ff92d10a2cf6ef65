/**
 * Which devices multiply matrices of float16. The feature is experimental: what its WGSL looks like may change, and a
 * shader that a browser does not take gives zeros and no exception. So a device counts only once its browser has taken the
 * code of a kernel.
 */
import type {AttentionVariant} from './attention_wgsl.js';
import {halfForwardBytes, halfForwardShader} from './half_forward_wgsl.js';
import {chooseHalfTile, MATRIX_SIZE, SUBGROUP_LANES} from './half_tiles.js';

const FEATURES = ['subgroups', 'shader-f16', 'chromium-experimental-subgroup-matrix'];

interface MatrixConfig {
  M: number;
  N: number;
  K: number;
  componentType: string;
  resultComponentType: string;
}

/** What adapters tell of themselves; parts are experimental, and missing in some browsers. */
type AdapterInfo = Partial<GPUAdapterInfo> & {subgroupMatrixConfigs?: Iterable<MatrixConfig>};

/** Whether the device says that it multiplies float16 matrices of 16 × 16 with float32 sums, in subgroups of 32. */
function offersHalfMatrices({features, adapterInfo}: GPUDevice): boolean {
  const {subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs = []}: AdapterInfo = adapterInfo ?? {};
  return (
    FEATURES.every((feature) => features.has(feature)) &&
    Boolean(globalThis.navigator?.gpu?.wgslLanguageFeatures.has('subgroup_id')) &&
    subgroupMinSize === SUBGROUP_LANES &&
    subgroupMaxSize === SUBGROUP_LANES &&
    [...subgroupMatrixConfigs].some(
      ({M, N, K, componentType, resultComponentType}) =>
        [M, N, K].every((size) => size === MATRIX_SIZE) && componentType === 'f16' && resultComponentType === 'f32',
    )
  );
}

const found = new WeakSet<GPUDevice>();

/** Of the call whose kernel is tried: one matrix deep, without options. */
const plainVariant: AttentionVariant = {
  depth: MATRIX_SIZE,
  valueDepth: MATRIX_SIZE,
  order: 'BHSD',
  bias: false,
  mask: false,
  headTable: false,
  softcap: false,
  dropout: false,
};

/** Finds out whether kernels of float16 can run on a new device. */
export async function findHalfMatrices(device: GPUDevice): Promise<void> {
  if (!offersHalfMatrices(device)) return;
  const tile = chooseHalfTile(device, 'forward', {variant: plainVariant, rows: 1, matrices: 1}, halfForwardBytes);
  if (!tile) return;
  device.pushErrorScope('validation');
  const shader = device.createShaderModule({code: halfForwardShader(plainVariant, tile).code});
  const [{messages}, error] = await Promise.all([shader.getCompilationInfo(), device.popErrorScope()]);
  if (error === null && messages.every(({type}) => type !== 'error')) found.add(device);
}

/** Whether {@link findHalfMatrices} has found that they can. */
export function hasHalfMatrices(device: GPUDevice): boolean {
  return found.has(device);
}
