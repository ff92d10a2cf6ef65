/** `precision: 'fast'`: products of float16 numbers where a GPU has them, and 'highest' everywhere else. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import {halfForwardBytes} from '../../kernels/webgpu/half_forward_wgsl.js';
import {halfQueryGradientBytes} from '../../kernels/webgpu/half_gradients_wgsl.js';
import {findHalfMatrices, hasHalfMatrices} from '../../kernels/webgpu/half_support.js';
import {chooseHalfTile} from '../../kernels/webgpu/half_tiles.js';
import {flashAttention} from '../../src/index.js';
import {type AttentionCase, attentionCases, describeCase, everythingOnGpu} from '../attention_cases.js';
import {makeInputs} from '../attention_inputs.js';
import {flashResult} from '../attention_results.js';
import {describeOnBackends, onWebgpu, useFlashBackend} from '../backends.js';
import {expectRightInHalfPrecision} from '../half_precision_results.js';

declare const FULL_GRID: boolean;

const base: AttentionCase = {B: 1, H: 2, Hk: 1, Sq: 70, Sk: 90, D: 64, Dv: 64};

/** Whole matrices and parts of them, few tiles and many, rows that see nothing, everything at once. */
const halfCases: AttentionCase[] = [
  base,
  {...base, Sq: 300, Sk: 290, causal: true},
  {...base, D: 128, Dv: 128, Sq: 140, Sk: 33},
  {...base, D: 59, Dv: 20, Sq: 33, Sk: 150, order: 'BSHD', window: [41, 6]},
  {...base, Sq: 300, Sk: 600, window: [100, 0], dropout: {rate: 0.3, seed: 5}},
  {...base, Sq: 150, Sk: 170, softcap: 2, dropout: {rate: 0.5, seed: 6}},
  // Scores that exceed those of the first keys by more than float16 holds.
  {...base, H: 4, gain: [4, 4, 1], Sq: 20, Sk: 600},
  {...base, Sq: 150, Sk: 140, causal: true, layout: {blockSize: [32, 16], density: 0.4, perHead: true}},
  everythingOnGpu,
];

/** The grid, but for what overflows float16 or has so few queries that other kernels take it. */
const isForHalf = ({D, Dv, gain = [1, 1, 1]}: AttentionCase) => Math.max(D, Dv) <= 128 && Math.max(...gain) < 8;
const cases = FULL_GRID ? [...halfCases, ...attentionCases.filter(isForHalf)] : halfCases;

function multipliesHalves(): boolean {
  const {device} = tf.backend() as Partial<WebGPUBackend>;
  return device !== undefined && hasHalfMatrices(device);
}

async function fastAndHighest(attentionCase: AttentionCase) {
  const inputs = makeInputs(attentionCase);
  const fast = await flashResult({...attentionCase, precision: 'fast'}, inputs);
  return {fast, highest: await flashResult(attentionCase, inputs)};
}

describeOnBackends("precision 'fast'", () => {
  it("is 'highest' where there are no matrices of float16", async () => {
    if (multipliesHalves()) pending('needs a device without matrices of float16');
    const {fast, highest} = await fastAndHighest(base);
    expect(fast).toEqual(highest);
  });
});

describeOnBackends(
  "precision 'fast' on a device with all that the adapter offers",
  () => {
    useFlashBackend();

    const onHalves = (body: () => Promise<void>) => async () => {
      if (!multipliesHalves()) pending('needs a GPU with matrices of float16');
      await body();
    };

    for (const attentionCase of cases) {
      it(
        `is right to the precision of float16: ${describeCase(attentionCase)}`,
        onHalves(() => expectRightInHalfPrecision(attentionCase)),
      );
    }

    it(
      'multiplies in float16',
      onHalves(async () => {
        const {fast, highest} = await fastAndHighest(base);
        expect(fast.output).not.toEqual(highest.output);
        expect(fast.gradients.k).not.toEqual(highest.gradients.k);
      }),
    );

    it(
      'has gradients that are smaller than float16 can hold',
      onHalves(async () => {
        const tiny = 1e-12;
        const errors = tf.tidy(() => {
          const [q, k, v] = [1, 2, 3].map((seed) => tf.randomNormal([1, 2, 70, 64], 0, 1, 'float32', seed));
          const gradientsOf = (factor: number) =>
            tf.grads((...qkv: tf.Tensor[]) => {
              const [queries, keys, values] = qkv as tf.Tensor4D[];
              return tf.mul(flashAttention(queries, keys, values, {precision: 'fast'}), factor);
            })([q, k, v]);
          const ones = gradientsOf(1);
          return gradientsOf(tiny).map((gradient, i) => tf.max(tf.abs(tf.sub(tf.div(gradient, tiny), ones[i]))));
        });
        for (const error of errors) expect((await error.data())[0]).toBeLessThan(1e-3);
        tf.dispose(errors);
      }),
    );
  },
  onWebgpu,
);

/** Of an H200. */
const limits = {
  maxComputeWorkgroupStorageSize: 49152,
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
};

describe('Tiles of float16', () => {
  const rowsOf = (depth: number, rows: number, more: object = {}, matrices = 128) => {
    const variant = {depth, valueDepth: depth} as Parameters<typeof halfForwardBytes>[0];
    const gpu = {limits: {...limits, ...more}} as unknown as GPUDevice;
    return chooseHalfTile(gpu, 'forward', {variant, rows, matrices}, halfForwardBytes)?.rows;
  };

  it('are as large as memory allows', () => {
    expect(rowsOf(64, 4096)).toBe(256);
    expect(rowsOf(128, 4096)).toBe(128);
    expect(rowsOf(64, 4096, {maxComputeWorkgroupStorageSize: 16384})).toBe(32);
    expect(rowsOf(64, 4096, {maxComputeInvocationsPerWorkgroup: 256})).toBe(128);
  });

  it('are smaller for dQ of heads of up to 64 elements', () => {
    const rowsForQueryGradient = (depth: number) => {
      const variant = {depth, valueDepth: depth} as Parameters<typeof halfForwardBytes>[0];
      const work = {variant, rows: 4096, matrices: 128};
      return chooseHalfTile({limits} as unknown as GPUDevice, 'queryGradient', work, halfQueryGradientBytes)?.rows;
    };
    expect(rowsForQueryGradient(64)).toBe(64);
    expect(rowsForQueryGradient(128)).toBe(128);
  });

  it('are smaller where there are few', () => {
    expect(rowsOf(64, 4096, {}, 8)).toBe(128);
    expect(rowsOf(64, 64, {}, 1)).toBe(64);
  });

  it('are not for larger heads', () => {
    expect(rowsOf(160, 4096)).toBeUndefined();
  });
});

describe('Matrices of float16', () => {
  const config = {M: 16, N: 16, K: 16, componentType: 'f16', resultComponentType: 'f32'};
  const features = ['subgroups', 'shader-f16', 'chromium-experimental-subgroup-matrix'];

  /** A device that takes every shader, or complains of it; other members as given. */
  function device(more: object = {}, complaints: {type: string}[] = []): GPUDevice {
    const gpu = {
      features: new Set(features),
      adapterInfo: {subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [config]},
      limits,
      pushErrorScope: () => {},
      popErrorScope: async () => null,
      createShaderModule: ({code}: {code: string}) => {
        expect(code).toContain('subgroupMatrixMultiplyAccumulate');
        return {getCompilationInfo: async () => ({messages: complaints})};
      },
    };
    return {...gpu, ...more} as unknown as GPUDevice;
  }

  async function isFound(gpu: GPUDevice): Promise<boolean> {
    await findHalfMatrices(gpu);
    return hasHalfMatrices(gpu);
  }

  it('are found where the browser takes a kernel, and nowhere before', async () => {
    expect(hasHalfMatrices(device())).toBe(false);
    expect(await isFound(device())).toBe(true);
    expect(await isFound(device({}, [{type: 'warning'}]))).toBe(true);
    expect(await isFound(device({}, [{type: 'warning'}, {type: 'error'}]))).toBe(false);
    expect(await isFound(device({popErrorScope: async () => ({message: 'no'})}))).toBe(false);
  });

  it('must be of the size and the types that the kernels have', async () => {
    const without = (feature: string) => device({features: new Set(features.filter((name) => name !== feature))});
    for (const feature of features)
      expect(await isFound(without(feature)))
        .withContext(feature)
        .toBe(false);
    const info = {subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [config]};
    for (const other of [
      {...info, subgroupMinSize: 16},
      {...info, subgroupMatrixConfigs: undefined},
      {...info, subgroupMatrixConfigs: [{...config, N: 8}]},
      {...info, subgroupMatrixConfigs: [{...config, resultComponentType: 'f16'}]},
    ]) {
      expect(await isFound(device({adapterInfo: other})))
        .withContext(JSON.stringify(other))
        .toBe(false);
    }
  });
});
