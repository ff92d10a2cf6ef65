/** What is special about the WebGPU kernels: devices with the default limits only, and tensors that exceed them. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import * as tf from '@tensorflow/tfjs-core';
import type {BlockDiagonalSizes} from '../../kernels/block_diagonal_sizes.js';
import {attentionBackward} from '../../kernels/cpu/attention_rows.js';
import type {AttentionVariant} from '../../kernels/webgpu/attention_wgsl.js';
import {butterflyPasses} from '../../kernels/webgpu/butterfly_passes.js';
import {butterflyStages} from '../../kernels/webgpu/butterfly_stages.js';
import {butterflyShape, butterflyTile, butterflyTileBits} from '../../kernels/webgpu/butterfly_tiles.js';
import {denseMatMulShader} from '../../kernels/webgpu/dense_mat_mul_wgsl.js';
import {workgroupGrid} from '../../kernels/webgpu/dispatch.js';
import {fewQueriesShapes, planFewQueries} from '../../kernels/webgpu/few_queries_tiles.js';
import {fewQueriesBytes} from '../../kernels/webgpu/few_queries_wgsl.js';
import {type CutRows, cutRows, mostInOnePart} from '../../kernels/webgpu/long_rows.js';
import {
  chooseOuterTile,
  type OuterTile,
  type OuterTileChoice,
  outerTileChoice,
  outerTileTable,
  smallestSubgroup,
} from '../../kernels/webgpu/outer_attention_tiles.js';
import {outerForwardShader} from '../../kernels/webgpu/outer_forward_wgsl.js';
import {outerKeyValueGradientShader, outerQueryGradientShader} from '../../kernels/webgpu/outer_gradients_wgsl.js';
import type {Shader} from '../../kernels/webgpu/shader.js';
import {planStored, storedGradientLimits, storedTiles} from '../../kernels/webgpu/stored_gradient.js';
import {
  chooseDenseProductTile,
  chooseMatMulPlan,
  denseProductTable,
  matMulTable,
  productTable,
  productTile,
  tileTable,
} from '../../kernels/webgpu/tile_sizes.js';
import {matricesAbreast, type RowKernel, type TiledWork} from '../../kernels/webgpu/tiled_work.js';
import {
  BlockLayout,
  blockSparseMatMul,
  butterflyMultiply,
  flashAttention,
  KeyValueCache,
  layerNorm,
  monarchMatMul,
} from '../../src/index.js';
import {
  type BlockDiagonalMatMulAttrs,
  FlashAttention,
  type FlashAttentionAttrs,
  FlashAttentionBackward,
} from '../../src/kernel_names.js';
import {denseMatMul} from '../../src/ops/dense_mat_mul.js';
import {type AttentionCase, attentionCases, describeCase, everythingOnGpu} from '../attention_cases.js';
import {makeInputs, oracleProblem, toTensor} from '../attention_inputs.js';
import {expectNothingReadPastLengths} from '../attention_lengths.js';
import {expectForwardRight, expectRight, expectWithin, worstError} from '../attention_results.js';
import {describeOnBackends, onWebgpu, useFlashBackend} from '../backends.js';
import {expectProductsRight} from '../block_diagonal_results.js';
import {expectProductRight, type ProductCase} from '../block_sparse_results.js';
import {type ButterflyCase, expectButterflyRight} from '../butterfly_results.js';
import {type DenseProductCase, expectDenseProductRight} from '../dense_mat_mul_results.js';
import {softwareTiles} from '../small_tiles.js';
import {unfusedAttention} from '../unfused.js';

declare const FULL_GRID: boolean;

const base: AttentionCase = {B: 1, H: 2, Hk: 1, Sq: 37, Sk: 53, D: 16, Dv: 16};

/** Whole rows of vec4, and everything at once with rows that are none. */
const gpuCases: AttentionCase[] = [
  {...base, Sq: 70, Sk: 90, bias: 'HQK', layout: {blockSize: [8, 16], density: 0.4, perHead: true}},
  {...base, D: 64, Dv: 64, Sq: 70, Sk: 90, causal: true},
  everythingOnGpu,
];

/** By tile ({@link smallOuterTiles}): blocks smaller than it and everything at once, heads that do not fill it, blocks around it. */
const outerCases: Record<string, AttentionCase[]> = {
  '32 × 64': [gpuCases[0], gpuCases[2]],
  '32 × 32': [
    {...base, Sq: 19, Sk: 150, D: 80, Dv: 40, causal: true},
    {
      ...base,
      Sq: 150,
      Sk: 140,
      D: 32,
      Dv: 32,
      causal: true,
      layout: {blockSize: [64, 64], density: 0.4, perHead: true},
    },
  ],
};

/** Heads that share keys and have other patterns, heads that do not fill a tile. */
const partsCase: AttentionCase = {
  ...base,
  B: 2,
  H: 4,
  Hk: 2,
  Sq: 150,
  Sk: 70,
  D: 20,
  Dv: 12,
  order: 'BSHD',
  queryLengths: [150, 99],
  layout: {blockSize: [16, 8], density: 0.4, perHead: true},
};

/**
 * Several groups, of two of six matrices that heads share; heads as deep as there are; only the tiles that a mask or a window
 * leaves. And what is stored of a group: of each matrix of keys for each head, in tiles.
 */
const storedCases: Record<string, {attentionCase: AttentionCase; tile: string; stored: number[]}> = {
  'in groups': {
    tile: '32 × 64',
    stored: [2, 2, 6, 32, 64],
    attentionCase: {
      ...{B: 3, H: 4, Hk: 2, Sq: 70, Sk: 90, D: 20, Dv: 12, order: 'BSHD', window: [20, 9], softcap: 3},
      ...{queryLengths: [70, 33, 0], keyLengths: [50, 90, 7], dropout: {rate: 0.3, seed: 5}},
    },
  },
  'of deep heads': {
    tile: '32 × 64',
    stored: [1, 2, 3, 32, 64],
    attentionCase: {...base, Sq: 40, Sk: 70, D: 128, Dv: 36, causal: true, alibi: 'H'},
  },
  'of a triangle': {
    tile: '32 × 32',
    stored: [2, 3, 6, 32, 32],
    // Two sets of 17 and 16 heads that take turns side by side.
    attentionCase: {...base, B: 11, H: 3, Hk: 1, Sq: 90, Sk: 90, causal: true, alibi: 'H'},
  },
  'of a band': {
    tile: '32 × 32',
    stored: [1, 2, 20, 32, 32],
    attentionCase: {...base, Sq: 150, Sk: 150, window: [40, 20]},
  },
};

/** Both operands of a chunk at once by other invocations, or each by all; with a load past the end, and without. */
const smallOuterTiles: Record<string, OuterTileChoice> = {
  '32 × 32': {
    tile: {...productTile('packed', [32, 32], [8, 8], 4), innerColumns: 8, loadsPastEnd: true},
    leastWorkgroups: 0,
    leastSeen: 0,
  },
  '32 × 64': {
    tile: {...productTile('packed', [32, 64], [8, 4], 8), innerColumns: 16, loadsPastEnd: false},
    leastWorkgroups: 0,
    leastSeen: 0,
  },
};

/**
 * One row to a workgroup, and more chunks than are merged at once; more rows than a lane group has lanes, some of which see
 * nothing in some chunks; everything at once.
 */
const fewQueriesCases: AttentionCase[] = [
  {...base, H: 2, Hk: 2, Sq: 1, Sk: 2600, D: 64, Dv: 64},
  {...base, B: 2, H: 8, Hk: 2, Sq: 2, Sk: 777, mask: 'HQK', causal: true},
  {...gpuCases[2], H: 4, Hk: 2, Sq: 2, Sk: 790, D: 20, window: [600, 6], queryLengths: [1, 2], keyLengths: [790, 300]},
];

/** Every mode, and in their gradients every pair of operands as they are stored and transposed. */
const gpuProductCases: ProductCase[] = [
  {mode: 'sdd', transposeA: true, transposeB: false, blockSize: 64, density: 0.5, free: 68},
  {mode: 'dsd', transposeA: false, transposeB: true, blockSize: 32, density: 0.5, free: 36},
  {mode: 'dds', transposeA: true, transposeB: true, blockSize: 8, density: 0.5, free: 21},
];

/** Several workgroups, the last of which has fewer rows than it could take. */
const gpuButterflyCases = (isComplex: boolean): ButterflyCase[] => [
  {n: 16, inputSize: 13, outputSize: 27, leading: [37], stacks: 2, blocks: 2, conjugate: true, isComplex},
  {n: 16, inputSize: 27, outputSize: 13, leading: [37], stacks: 2, blocks: 2, transpose: true, isComplex},
  {n: 512, inputSize: 500, leading: [3], transpose: true, conjugate: true, increasingStride: false, isComplex},
];
const realAndComplex = [...gpuButterflyCases(false), ...gpuButterflyCases(true)];

/** The device as the kernels see it, with other limits than it has. */
function withLimits<T>(limits: Partial<Record<keyof GPUSupportedLimits, number>>, body: () => T): T {
  const {device} = tf.backend() as WebGPUBackend;
  const real = device.limits;
  const changed = new Proxy(real, {
    get: (target, name) => limits[name as keyof GPUSupportedLimits] ?? Reflect.get(target, name, target),
  });
  Object.defineProperty(device, 'limits', {value: changed, configurable: true});
  const restore = () => Reflect.deleteProperty(device, 'limits');
  const result = body();
  if (result instanceof Promise) return result.finally(restore) as T;
  restore();
  return result;
}

/** With this tile of outer products in all attention kernels, on whatever device. */
async function withOuterTiles(choice: OuterTileChoice, body: () => Promise<void>): Promise<void> {
  const [real, size] = [{...outerTileTable}, smallestSubgroup.size];
  const tiles = [{mostDepth: Infinity, choices: [choice]}];
  Object.assign(outerTileTable, {forward: tiles, queryGradient: tiles, keyValueGradient: tiles});
  smallestSubgroup.size = 0;
  try {
    await body();
  } finally {
    Object.assign(outerTileTable, real);
    smallestSubgroup.size = size;
  }
}

/** With these tiles for every device. */
async function withTiles<T>(table: {wide: T; narrow: T}, tiles: T, body: () => Promise<void>): Promise<void> {
  const {wide, narrow} = table;
  Object.assign(table, {wide: tiles, narrow: tiles});
  try {
    await body();
  } finally {
    Object.assign(table, {wide, narrow});
  }
}

/** That a device with buffers of 20 000 bytes refuses the call with this message, and that nothing is left behind. */
function expectTooLarge(call: () => unknown, message: RegExp): void {
  const before = tf.memory().numTensors;
  withLimits({maxStorageBufferBindingSize: 20_000}, () => {
    expect(call).toThrowError(message);
  });
  expect(tf.memory().numTensors).toBe(before);
}

/** With the tiles that GPUs get, on whatever device. */
const withGpuTiles = <T>(table: {wide: T; narrow: T}, body: () => Promise<void>) => withTiles(table, table.wide, body);

describeOnBackends(
  'WebGPU block-sparse products',
  () => {
    for (const productCase of gpuProductCases) {
      it(`are right with the tiles that GPUs get: ${JSON.stringify(productCase)}`, () =>
        withGpuTiles(productTable, () => expectProductRight(productCase)));
    }

    it('name a matrix that exceeds a buffer, and leave nothing behind', () => {
      const layout = BlockLayout.dense(64, 64, 16);
      const [x, w] = [tf.zeros([100, 64]), tf.zeros([layout.nnz, 16, 16])];
      expectTooLarge(
        () => blockSparseMatMul(x, w, {layout, mode: 'dds'}),
        /^blockSparseMatMul: a of shape \[1,1,100,64\] needs 25600 bytes, but a buffer of this WebGPU device holds 20000\./,
      );
    });
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU dense products',
  () => {
    const gpuPlan = {...matMulTable.wide, leastMultiplyAdds: 0, enoughWorkgroups: 4};
    // Of products so small that GPUs leave them to tfjs.
    const smallPlan = matMulTable.narrow;
    const gpuProducts: DenseProductCase[] = [
      {rows: 132, columns: 68, inner: 72, hasBias: true},
      {rows: 131, columns: 67, inner: 73, transposeA: true, hasBias: true},
      {rows: 68, columns: 64, inner: 600, transposeB: true},
    ];
    for (const productCase of gpuProducts) {
      it(`are right with the tiles that GPUs get: ${JSON.stringify(productCase)}`, () =>
        withTiles(matMulTable, gpuPlan, () => expectDenseProductRight(productCase)));
    }

    // A store of one component may write the whole vector: a race that no software GPU shows, but Metal and D3D do.
    it('store whole vectors in workgroup memory', () => {
      for (const tile of [...matMulTable.wide.tiles, ...matMulTable.narrow.tiles]) {
        for (const [transposeA, transposeB] of [
          [false, false],
          [false, true],
          [true, false],
        ]) {
          const vectorized = {a: true, b: true, out: true};
          const {code} = denseMatMulShader({transposeA, transposeB, hasBias: true, vectorized}, tile);
          const stores = code.match(/\w+Memory\[.*\S = /g) ?? [];
          expect(stores.length).toBeGreaterThan(0);
          expect(stores.filter((store) => !/^\w+Memory\[[^[\]]*\] = $/.test(store))).toEqual([]);
        }
      }
    });

    it('take one dispatch, or two where the inner dimension is made in parts', () =>
      withTiles(matMulTable, smallPlan, async () => {
        const dispatches = spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups').and.callThrough();
        const multiply = async (rows: number, inner: number) => {
          dispatches.calls.reset();
          await denseMatMul(tf.ones([rows, inner]), tf.ones([inner, 64])).data();
          return dispatches.calls.count();
        };
        expect(await multiply(512, 64)).toBe(1);
        expect(await multiply(32, 1024)).toBe(2);
      }));

    it('are made in parts where tiles are few, and left to tfjs where they are too small or thin for tiles', () =>
      withTiles(matMulTable, matMulTable.wide, async () => {
        const {device} = tf.backend() as WebGPUBackend;
        const plan = (rows: number, columns: number, inner: number, hasBias = false, transposeB = false) =>
          chooseMatMulPlan(device, {rows, columns, inner}, {hasBias, transposeA: false, transposeB});
        const rowsOfTile = (transposeB: boolean) => plan(8192, 1024, 1024, false, transposeB)?.tile.rows;
        expect([rowsOfTile(false), rowsOfTile(true)]).toEqual([128, 64]);
        expect(plan(8192, 1024, 1024)).toEqual(jasmine.objectContaining({parts: 1, innerOfPart: 1024}));
        expect(plan(512, 512, 8192)).toEqual(jasmine.objectContaining({parts: 8, innerOfPart: 1024}));
        expect(plan(512, 512, 8200)).toEqual(jasmine.objectContaining({parts: 8, innerOfPart: 1040}));
        expect(plan(512, 512, 8192, true)).toBeUndefined();
        expect(plan(384, 384, 512)).toBeUndefined();
        expect(plan(65536, 24, 1024)).toBeUndefined();
        expect(plan(128, 128, 128)).toBeUndefined();
      }));

    it('name a matrix that exceeds a buffer, and leave nothing behind', () =>
      withTiles(matMulTable, smallPlan, async () => {
        const [a, b] = [tf.zeros<tf.Rank.R2>([100, 64]), tf.zeros<tf.Rank.R2>([64, 64])];
        expectTooLarge(
          () => denseMatMul(a, b),
          /^denseMatMul: a of shape \[100,64\] needs 25600 bytes, but a buffer of this WebGPU device holds 20000\./,
        );
      }));
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU block-diagonal products',
  () => {
    // So that the fallback is not what is asked for.
    beforeEach(() => tf.dispose(monarchMatMul(tf.ones([1, 1]), tf.ones([1, 1, 1]), tf.ones([1, 1, 1]))));

    // Each compiles for seconds in software, so gradients are made together here: what makes one is the same code apart.
    const gpuBlocks: [BlockDiagonalMatMulAttrs, BlockDiagonalSizes][] = [
      [
        {input: 'blocked', output: 'interleaved', transpose: false},
        {batch: 133, blocks: 2, outer: 36, inner: 132},
      ],
      [
        {input: 'interleaved', output: 'blocked', transpose: true},
        {batch: 133, blocks: 2, outer: 36, inner: 132},
      ],
      [
        {input: 'blocked', output: 'blocked', transpose: true},
        {batch: 133, blocks: 2, outer: 37, inner: 131},
      ],
    ];
    // Each tile takes one of these, and the largest all; in a full run they all do.
    for (const [i, tile] of denseProductTable.wide.entries()) {
      it(`are right in tiles of ${tile.rows} × ${tile.columns}`, () =>
        withTiles(denseProductTable, [tile], async () => {
          const blocks = FULL_GRID || i === 0 ? gpuBlocks : [gpuBlocks[i % gpuBlocks.length]];
          for (const [attrs, sizes] of blocks) await expectProductsRight(attrs, sizes, {alsoApart: false});
        }));
    }

    it('get larger tiles where there are enough of them and the device has room', () =>
      withTiles(denseProductTable, denseProductTable.wide, async () => {
        const {device} = tf.backend() as WebGPUBackend;
        const tileFor = (bytes: number, ...matrices: [number, number][]) =>
          withLimits({maxComputeWorkgroupStorageSize: bytes}, () => {
            const tile = chooseDenseProductTile(device, matrices, 4);
            return [tile.rows, tile.columns];
          });
        expect(tileFor(49152, [2048, 2048])).toEqual([64, 64]);
        expect(tileFor(10000, [2048, 2048])).toEqual([32, 64]);
        expect(tileFor(49152, [256, 512])).toEqual([32, 64]);
        expect(tileFor(49152, [3, 5])).toEqual([32, 32]);
        expect(tileFor(49152, [2048, 2048], [256, 512])).toEqual([32, 64]);
      }));

    it('keep their uniforms, of which no two share a buffer', async () => {
      const attrs: BlockDiagonalMatMulAttrs = {input: 'blocked', output: 'blocked', transpose: false};
      for (let i = 0; i < 3; i++) {
        for (const batch of [3, 4]) await expectProductsRight(attrs, {batch, blocks: 2, outer: 5, inner: 6});
      }
    });
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU attention',
  () => {
    for (const attentionCase of [
      {...base, D: 256, Dv: 256, mask: 'K'},
      {...base, D: 40, Dv: 40, bias: 'QK', mask: 'BHQK', alibi: 'H' as const},
    ]) {
      it(`keeps to the default limits: ${describeCase(attentionCase)}`, () =>
        withLimits(
          {maxComputeWorkgroupStorageSize: 16384, maxStorageBuffersPerShaderStage: 8, maxComputeWorkgroupSizeX: 256},
          () => withTiles(tileTable, softwareTiles, () => expectRight(attentionCase)),
        ));
    }

    const softwareCase = {...gpuCases[0], softcap: 5, dropout: {rate: 0.17, seed: 42}};
    it(`is right with the tiles that software GPUs get: ${describeCase(softwareCase)}`, () =>
      withTiles(tileTable, softwareTiles, () => expectRight(softwareCase)));

    for (const attentionCase of gpuCases) {
      it(`is right with the tiles that GPUs get: ${describeCase(attentionCase)}`, () =>
        withGpuTiles(tileTable, () => expectRight(attentionCase)));
    }

    // The limit is 65535: as many heads take a software GPU most of a minute.
    const workgroupLimit = FULL_GRID ? 65535 : 100;
    it(`takes more heads, and so workgroups, than the ${workgroupLimit} of one dimension of a dispatch`, () =>
      withLimits({maxComputeWorkgroupsPerDimension: workgroupLimit}, async () => {
        const heads = Math.floor(workgroupLimit / 5) + 1;
        const q = tf.ones<tf.Rank.R4>([5, heads, 1, 16]);
        const v = tf.randomNormal<tf.Rank.R4>([5, heads, 1, 16]);
        const {value, grad} = tf.valueAndGrad((x: tf.Tensor4D) => flashAttention(q, q, x))(v, q);
        // With one key, the output is its value, and the value's gradient is that of the output.
        const [output, dv, expected, ones] = await Promise.all([value, grad, v, q].map((t) => t.data()));
        expect(output).toEqual(expected);
        expect(dv).toEqual(ones);
      }));

    it('names a tensor that exceeds a buffer, and leaves nothing behind', () => {
      const q = tf.zeros<tf.Rank.R4>([1, 2, 40, 16]);
      const k = tf.zeros<tf.Rank.R4>([1, 2, 300, 16]);
      const {numTensors, numDataBuffers} = tf.memory();
      withLimits({maxStorageBufferBindingSize: 20_000}, () => {
        expect(() => flashAttention(q, k, k)).toThrowError(
          /^flashAttention: k of shape \[1,2,300,16\] needs 38400 bytes, but a buffer of this WebGPU device holds 20000\./,
        );
      });
      expect(tf.memory().numTensors).toBe(numTensors);
      expect(tf.memory().numDataBuffers).toBe(numDataBuffers);
    });
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU attention of few queries',
  () => {
    const casesOfGrid = attentionCases.filter(({Sq, layout}) => Sq <= 16 && !layout);
    for (const attentionCase of FULL_GRID ? [...fewQueriesCases, ...casesOfGrid] : fewQueriesCases) {
      it(`is right with the tiles that GPUs get: ${describeCase(attentionCase)}`, () =>
        withGpuTiles(fewQueriesShapes, () => expectForwardRight(attentionCase)));
    }

    it('leaves output and statistics from which the backward kernel makes the gradients', async () => {
      const attentionCase = {...base, H: 4, Hk: 2, Sq: 2, Sk: 777, causal: true};
      const inputs = makeInputs(attentionCase);
      inputs.lseWeights.values.fill(0);
      const problem = oracleProblem(attentionCase, inputs);
      const attrs = {...problem.attrs, taped: false, lseHasGradient: false} as unknown as tf.NamedAttrMap;
      const [q, k, v, dOutput] = [inputs.q, inputs.k, inputs.v, inputs.outputWeights].map(toTensor);
      let gradients: tf.Tensor[] = [];
      await withGpuTiles(fewQueriesShapes, async () => {
        const run = (name: string, tensors: tf.NamedTensorMap) => tf.engine().runKernel(name, tensors, attrs);
        const [output, softmaxStats] = run(FlashAttention, {q, k, v}) as tf.Tensor[];
        gradients = run(FlashAttentionBackward, {q, k, v, output, softmaxStats, dOutput}) as tf.Tensor[];
      });
      const {dq, dk, dv} = attentionBackward(problem, inputs.outputWeights.values);
      const unfused = await unfusedAttention(attentionCase, inputs);
      for (const [i, [name, right]] of Object.entries({q: dq, k: dk, v: dv}).entries()) {
        const allowed = 3 * worstError(unfused.gradients[name as 'q' | 'k' | 'v'] as Float32Array, right);
        expectWithin(`gradient of ${name}`, await gradients[i].data(), right, allowed);
      }
    });

    /** The workgroups of each dispatch in `body`, with the tiles that GPUs get. */
    async function workgroupsOf(body: () => tf.Tensor | tf.Tensor[]): Promise<number[]> {
      const dispatches = spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups').and.callThrough();
      let workgroups: number[] = [];
      await withGpuTiles(fewQueriesShapes, async () => {
        const results = [body()].flat();
        workgroups = dispatches.calls.allArgs().map(([x, y = 1]) => x * y);
        await Promise.all(results.map((result) => result.data()));
      });
      return workgroups;
    }

    const [B, H, Hk, D] = [1, 4, 2, 16];
    const queries = (count: number) => tf.randomNormal<tf.Rank.R4>([B, H, count, D]);
    const keys = (count: number) => tf.randomNormal<tf.Rank.R4>([B, Hk, count, D]);

    it('has a workgroup for each key head and chunk of its keys, and a second dispatch for several chunks', async () => {
      const [q, k] = [queries(1), keys(1100)];
      expect(await workgroupsOf(() => flashAttention(q, k, k))).toEqual([Hk * 4, H]);
    });

    it('takes one dispatch where one chunk suffices', async () => {
      const [q, k] = [queries(2), keys(511)];
      expect(await workgroupsOf(() => flashAttention(q, k, k))).toEqual([Hk]);
    });

    it('cuts up what a window shows', async () => {
      const [q, k] = [queries(1), keys(1100)];
      expect(await workgroupsOf(() => flashAttention(q, k, k, {window: [100, 0]}))).toEqual([Hk]);
    });

    for (const [length, dispatched] of [
      [300, [Hk]],
      [1500, [Hk * 5, H]],
    ] as const) {
      it(`cuts up the ${length} tokens that a cache has, and reads no others`, async () => {
        const cache = new KeyValueCache({batch: B, capacity: 2000, numKvHeads: Hk, keyDim: D});
        const rows = (count: number) => tf.ones<tf.Rank.R4>([B, count, Hk, D]);
        const others = tf.fill<tf.Rank.R4>([B, 2000 - length, Hk, D], Number.NaN);
        cache.append(rows(length), rows(length));
        cache.append(others, others);
        cache.truncate(length);
        const {keys, values, keyLengths} = cache;
        const q = tf.ones<tf.Rank.R4>([B, 1, H, D]);
        let output = q;
        const attend = () => {
          output = flashAttention(q, keys, values, {causal: true, keyLengths, order: 'BSHD'});
          return output;
        };
        const [headTable, ...attention] = await workgroupsOf(attend);
        expect(headTable).toBe(1);
        expect(attention).toEqual([...dispatched]);
        expect(Array.from(await output.data())).toEqual(Array(H * D).fill(1));
        cache.dispose();
      });
    }

    it('gives the same where workgroups are more than a dimension has', async () => {
      const [q, k] = [queries(1), keys(1100)];
      const outputs: tf.Tensor[] = [];
      const attend = () => {
        const output = flashAttention(q, k, k);
        outputs.push(output);
        return output;
      };
      await withGpuTiles(fewQueriesShapes, async () => void attend());
      const limits = {maxComputeWorkgroupsPerDimension: 3};
      expect(await withLimits(limits, () => workgroupsOf(attend))).toEqual([3 * 3, 2 * 2]);
      const [expected, limited] = await Promise.all(outputs.map((output) => output.data()));
      expect(limited).toEqual(expected);
    });

    it('leaves what has a layout to kernels that skip dead blocks', async () => {
      const [q, k] = [queries(1), keys(1100)];
      const layout = BlockLayout.from({rowBlocks: 1, colBlocks: 11, blockSize: [1, 100], heads: 1, isLive: () => true});
      expect(await workgroupsOf(() => flashAttention(q, k, k, {layout}))).toEqual([H]);
      layout.dispose();
    });

    it('leaves more queries to other kernels', async () => {
      const [q, k] = [queries(17), keys(1100)];
      await withTiles(tileTable, softwareTiles, async () => {
        expect(await workgroupsOf(() => flashAttention(q, k, k))).toEqual([H]);
      });
    });

    it('leaves what a tape records to the kernels that add up q·k as the gradient will', async () => {
      const [q, k] = [queries(1), keys(1100)];
      const gradient = tf.grad((x) => flashAttention(x as tf.Tensor4D, k, k));
      const [forward] = await workgroupsOf(() => gradient(q, tf.ones(q.shape)));
      expect(forward).toBe(H);
    });
  },
  onWebgpu,
);

describe('A plan for few queries', () => {
  const device = (bytes: number, subgroupMaxSize = 32) =>
    ({adapterInfo: {subgroupMaxSize}, limits: {maxComputeWorkgroupStorageSize: bytes}}) as unknown as GPUDevice;
  const sizes = {batch: 1, heads: 32, keyHeads: 32, queries: 1, keys: 16384, depth: 64, valueDepth: 64};
  const attrs = {left: -1, right: -1, mostKeys: 16384, layout: null, taped: false} as unknown as FlashAttentionAttrs;
  const plan = (changes: Partial<typeof sizes & FlashAttentionAttrs>, bytes = 16384) =>
    planFewQueries(device(bytes), {...attrs, ...changes}, {...sizes, ...changes}, fewQueriesBytes);

  it('fills a GPU with workgroups, unless their keys would become too few', () => {
    expect(plan({})).toEqual({tile: {rows: 1, lanes: 4, threads: 128}, rowTiles: 1, chunks: 16});
    expect(plan({depth: 128})?.tile.lanes).toBe(8);
    expect(plan({keyHeads: 8})?.chunks).toBe(64);
    expect(plan({batch: 64})?.chunks).toBe(1);
    expect(plan({mostKeys: 1024})?.chunks).toBe(4);
    expect(plan({left: 4095, right: 0})?.chunks).toBe(16);
    expect(plan({left: 511, right: 0})?.chunks).toBe(2);
  });

  it('packs the queries of all heads that share a key head into tiles of rows', () => {
    expect(plan({keyHeads: 8})?.tile.rows).toBe(4);
    expect(plan({keyHeads: 8, queries: 3})?.tile.rows).toBe(16);
    expect(plan({keyHeads: 1})).toEqual({tile: {rows: 16, lanes: 16, threads: 32}, rowTiles: 2, chunks: 64});
  });

  it('leaves many queries, and few keys, to other kernels', () => {
    expect(plan({queries: 16, mostKeys: 256})).toBeDefined();
    expect(plan({queries: 16, mostKeys: 255})).toBeUndefined();
    expect(plan({queries: 17})).toBeUndefined();
  });

  it('takes fewer invocations, or rows, where workgroup memory is small', () => {
    expect(plan({queries: 16}, 49152)?.tile).toEqual({rows: 16, lanes: 16, threads: 128});
    expect(plan({queries: 16})?.tile).toEqual({rows: 16, lanes: 16, threads: 32});
    expect(plan({queries: 16, depth: 256})?.tile).toEqual({rows: 8, lanes: 64, threads: 64});
  });
});

describeOnBackends(
  'WebGPU attention of outer products',
  () => {
    useFlashBackend();

    // Tiles of GPUs, all unrolled, take software too long to compile.
    for (const [name, choice] of Object.entries(smallOuterTiles)) {
      const all = [...Object.values(outerCases).flat(), gpuCases[1], ...attentionCases];
      for (const attentionCase of FULL_GRID ? all : outerCases[name]) {
        it(`is right in tiles of ${name}: ${describeCase(attentionCase)}`, () =>
          withOuterTiles(choice, () => expectRight(attentionCase)));
      }
    }

    it('reads nothing past the lengths', () =>
      withOuterTiles(smallOuterTiles['32 × 32'], expectNothingReadPastLengths));

    for (const [name, {attentionCase, tile, stored}] of Object.entries(storedCases)) {
      it(`is right where dS is passed on, ${name}`, async () => {
        // The buffer for it comes out of tfjs's pool with NaN in it, which nobody must read.
        const poison = tf.fill(stored, Number.NaN);
        await poison.data();
        poison.dispose();
        const limits = {...storedGradientLimits};
        const made = spyOn(GPUDevice.prototype, 'createShaderModule').and.callThrough();
        // The buffer may be larger than these small inputs.
        Object.assign(storedGradientLimits, {
          windowed: {bytes: 4 * tf.util.sizeFromShape(stored), invocations: 0},
          inputShare: 100,
        });
        try {
          await withOuterTiles(smallOuterTiles[tile], () => expectRight(attentionCase));
          expect(made.calls.allArgs().filter(([{code}]) => /scoreGradients: array<vec4f>/.test(code)).length).toBe(2);
        } finally {
          Object.assign(storedGradientLimits, limits);
        }
      });
    }

    it('is right where dS is made twice', async () => {
      const limits = {...storedGradientLimits};
      Object.assign(storedGradientLimits, {windowed: {bytes: 0, invocations: 0}});
      try {
        await withOuterTiles(smallOuterTiles['32 × 32'], () => expectRight(outerCases['32 × 32'][0]));
      } finally {
        Object.assign(storedGradientLimits, limits);
      }
    });

    it('has more matrices side by side where their turns are uneven', () => {
      const abreast = (
        left: number,
        right: number,
        rowTiles: number,
        depth = 64,
        precision: 'highest' | 'fast' = 'highest',
      ) => matricesAbreast({left, right, precision}, {depth, valueDepth: 32}, rowTiles);
      expect(abreast(-1, 0, 8)).toBe(256);
      expect(abreast(-1, 0, 8, 128)).toBe(128);
      expect(abreast(-1, 0, 256)).toBe(16);
      expect(abreast(-1, -1, 8)).toBe(16);
      expect(abreast(99, 0, 8)).toBe(16);
      expect(abreast(-1, 0, 8, 64, 'fast')).toBe(16);
    });

    it('stores no more tiles of dS than a window leaves', () => {
      const {tile} = outerTileChoice(64, 64, 4);
      const sizes = {batch: 1, heads: 1, keyHeads: 1, queries: 640, keys: 640, depth: 64, valueDepth: 64};
      const tilesOf = (left: number, right: number, changes = {}, lengths = {}) => {
        const {shape, pitch, before, count} = storedTiles(tile, lengths, {left, right}, {...sizes, ...changes});
        return `${shape} ${pitch} ${before} ${count}`;
      };
      const all = 'full 10 0 100';
      expect(tilesOf(-1, -1)).toBe(all);
      expect(tilesOf(-1, 0)).toBe('triangle 10 0 55');
      expect(tilesOf(500, 0)).toBe('triangle 10 0 55');
      expect(tilesOf(128, 0)).toBe('band 3 0 30');
      expect(tilesOf(128, 1)).toBe('band 4 1 40');
      expect(tilesOf(400, 400)).toBe(all);
      expect(tilesOf(-1, 64)).toBe(all);
      // Where the diagonal goes elsewhere.
      expect(tilesOf(-1, 0, {keys: 641})).toBe('full 10 0 110');
      expect(tilesOf(-1, 0, {}, {keyLengths: tf.tensor1d([600], 'int32')})).toBe(all);
      expect(storedTiles({...tile, rows: 32}, {}, {left: -1, right: 0}, sizes).shape).toBe('full');
    });

    it('passes dS on in as many groups as fit, but in none that leave a GPU without work', () => {
      const {tile} = outerTileChoice(128, 128, 8);
      const gpu = {limits: {maxStorageBufferBindingSize: 2 ** 30, maxBufferSize: 2 ** 30}} as GPUDevice;
      const sizes = {batch: 4, heads: 32, keyHeads: 16, queries: 1024, keys: 1000, depth: 64, valueDepth: 64};
      const full = {layout: null, left: -1, right: -1} as unknown as FlashAttentionAttrs;
      const groupsOf = (changes: Partial<typeof sizes>, attrs = full) =>
        planStored(gpu, tile, {}, attrs, {...sizes, ...changes})?.groups.map(({first, count}) => [first, count]);
      // A matrix of keys takes 8 MiB, and the inputs 32 for each sample.
      expect(groupsOf({})?.slice(-2)).toEqual([
        [39, 13],
        [52, 12],
      ]);
      expect(groupsOf({batch: 1})).toBeUndefined();
      expect(groupsOf({batch: 16})?.slice(0, 2)).toEqual([
        [0, 32],
        [32, 32],
      ]);
      expect(groupsOf({}, {...full, right: 0})).toBeUndefined();
      expect(groupsOf({batch: 64, queries: 256, keys: 250}, {...full, right: 0})?.length).toBe(2);
      expect(groupsOf({batch: 1, heads: 1, keyHeads: 1, queries: 64, keys: 64})).toEqual([[0, 1]]);
      expect(groupsOf({depth: 160})).toBeUndefined();
    });

    it('is right where rows of a layout are cut into parts', async () => {
      const real = {...mostInOnePart};
      Object.assign(mostInOnePart, {tiles: 1, averages: 0});
      try {
        const sums = spyOn(GPUDevice.prototype, 'createShaderModule').and.callThrough();
        await withOuterTiles(smallOuterTiles['32 × 32'], () => expectRight(partsCase));
        expect(sums.calls.allArgs().filter(([{code}]) => /partial: array<vec4f>/.test(code)).length).toBe(2);
      } finally {
        Object.assign(mostInOnePart, real);
      }
    });

    it('cuts rows that are far longer than others, longest parts first', () => {
      expect(cutRows([3, 20, 4, 16])).toBeUndefined();
      const cut = cutRows([40, 3, 5, 2, 17, 4, 1, 3, 2, 3]) as CutRows;
      expect([cut.turns, cut.slots, cut.rows]).toEqual([13, 5, 2]);
      const turns = [
        [0, 0, 3, 0],
        [0, 1, 3, 1],
        [0, 2, 3, 2],
        [4, 0, 2, 3],
        [4, 1, 2, 4],
        [2, 0, 1, 0],
      ];
      expect(Array.from(cut.table.subarray(0, 24))).toEqual(turns.flat());
      expect(Array.from(cut.table.subarray(4 * cut.turns))).toEqual([0, 0, 3, 4, 3, 2]);
    });

    it('has tiles that make valid shaders, and deal whole columns', async () => {
      const {device} = tf.backend() as WebGPUBackend;
      const makers: Record<RowKernel, (variant: AttentionVariant, tile: OuterTile) => Shader> = {
        forward: outerForwardShader,
        queryGradient: outerQueryGradientShader,
        keyValueGradient: (variant, tile) => outerKeyValueGradientShader(variant, tile, {dk: true, dv: true}, 'cut'),
      };
      for (const [kernel, ofDepths] of Object.entries(outerTileTable)) {
        for (const {mostDepth: depth, choices} of ofDepths) {
          for (const {tile} of choices) {
            const name = `${kernel} of ${depth}: ${JSON.stringify(tile)}`;
            expect((tile.innerColumns * tile.threadColumns) % tile.columns)
              .withContext(name)
              .toBe(0);
            const variant: AttentionVariant = {
              ...{depth, valueDepth: depth - 3, order: 'BSHD', layout: {blockSize: [16, 16]}},
              ...{bias: true, mask: true, headTable: true, softcap: true, dropout: true},
            };
            const {code} = makers[kernel as RowKernel](variant, tile);
            const {messages} = await device.createShaderModule({code}).getCompilationInfo();
            expect(messages.filter(({type}) => type === 'error').map(({message}) => message))
              .withContext(name)
              .toEqual([]);
          }
        }
      }
    });

    it('is right in a tile that GPUs get', () =>
      withOuterTiles(outerTileChoice(64, 64, 4), () =>
        expectForwardRight({...base, D: 64, Dv: 64, Sq: 70, Sk: 90, causal: true}),
      ));

    const device = (subgroupMinSize: number, changes: Partial<GPUSupportedLimits> = {}) => {
      const limits = {
        maxComputeWorkgroupStorageSize: 49152,
        maxComputeInvocationsPerWorkgroup: 1024,
        maxComputeWorkgroupSizeX: 1024,
        ...changes,
      };
      return {adapterInfo: {subgroupMinSize}, limits} as unknown as GPUDevice;
    };
    const work = (depth: number, rows: number, changes: Partial<TiledWork> = {}): TiledWork => ({
      variant: {depth, valueDepth: 16} as AttentionVariant,
      rows,
      matrices: 1,
      ...changes,
    });
    const sidesOf = (gpu: GPUDevice, kernel: RowKernel, of: TiledWork) => {
      const tile = chooseOuterTile(gpu, kernel, of, ({rows, columns}) => 128 * (rows + columns));
      return tile && [tile.rows, tile.columns];
    };

    it('is for devices with wide SIMD groups, and heads whose sums fit into registers', () => {
      expect(sidesOf(device(16), 'forward', work(64, 1e6))).toBeUndefined();
      expect(sidesOf(device(32), 'forward', work(257, 1e6))).toBeUndefined();
      expect([16, 64, 128, 256].map((depth) => sidesOf(device(32), 'forward', work(depth, 1e6)))).toEqual([
        [128, 64],
        [128, 64],
        [64, 128],
        [64, 128],
      ]);
      expect([16, 64, 128, 256].map((depth) => sidesOf(device(64), 'keyValueGradient', work(depth, 1e6)))).toEqual([
        [128, 64],
        [128, 128],
        [64, 64],
        [64, 128],
      ]);
    });

    it('takes smaller tiles where there are few rows, narrow windows, small blocks or little room', () => {
      expect(sidesOf(device(32), 'forward', work(64, 1e6, {seen: 384}))).toEqual([128, 64]);
      expect(sidesOf(device(32), 'forward', work(64, 1e6, {seen: 383}))).toEqual([64, 64]);
      expect(sidesOf(device(32), 'queryGradient', work(64, 128 * 96))).toEqual([128, 128]);
      expect(sidesOf(device(32), 'queryGradient', work(64, 128 * 95))).toEqual([64, 64]);
      expect(sidesOf(device(32), 'queryGradient', work(64, 1))).toEqual([64, 64]);
      const blocks = [
        [64, 64],
        [32, 128],
        [8, 8],
      ] as const;
      const within = blocks.map(([rows, columns]) => work(64, 1e6, {block: {rows, columns}}));
      expect(within.map((of) => sidesOf(device(32), 'queryGradient', of))).toEqual([
        [64, 64],
        [32, 32],
        [32, 32],
      ]);
      expect(sidesOf(device(32, {maxComputeWorkgroupStorageSize: 16384}), 'queryGradient', work(64, 1e6))).toEqual([
        64, 64,
      ]);
      expect(sidesOf(device(32, {maxComputeInvocationsPerWorkgroup: 128}), 'queryGradient', work(64, 1e6))).toEqual([
        64, 64,
      ]);
      expect(sidesOf(device(32, {maxComputeWorkgroupStorageSize: 4096}), 'forward', work(64, 1e6))).toBeUndefined();
    });
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU butterfly products',
  () => {
    it('take the batch in parts where what backward keeps would exceed a buffer', () =>
      withLimits({maxStorageBufferBindingSize: 20_000}, () =>
        expectButterflyRight({n: 64, inputSize: 60, leading: [40], increasingStride: false}),
      ));

    // Real and complex kernels differ in how they load and multiply, which is the same in either leg.
    const [real, ...complex] = [gpuButterflyCases(false)[0], ...gpuButterflyCases(true).slice(1)];
    for (const butterflyCase of FULL_GRID ? realAndComplex : [real, ...complex]) {
      it(`are right where the device binds too few buffers to go there and back at once: ${JSON.stringify(butterflyCase)}`, () =>
        withLimits({maxStorageBuffersPerShaderStage: 5}, () => expectButterflyRight(butterflyCase)));
    }

    it('are right where workgroups have few invocations', () =>
      withLimits({maxComputeInvocationsPerWorkgroup: 16}, () =>
        expectButterflyRight({n: 128, inputSize: 100, leading: [9], blocks: 2}),
      ));

    for (const isComplex of [false, true]) {
      it(`add up many rows of few matrices in chunks${isComplex ? ', complex' : ''}`, () =>
        expectButterflyRight({n: 8, inputSize: 8, leading: [2100], isComplex}));

      it(`take several passes where no tile holds a row${isComplex ? ', complex' : ''}`, () =>
        withLimits({maxComputeInvocationsPerWorkgroup: 64}, () =>
          expectButterflyRight({n: 2048, inputSize: 2048, leading: [3], increasingStride: false, isComplex}),
        ));
    }

    it('take one dispatch forward, and two backward', async () => {
      const [x, twiddle, dy] = [tf.randomNormal([9, 512]), tf.randomNormal([1, 1, 9, 256, 2, 2]), tf.ones([9, 512])];
      const dispatches = spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups').and.callThrough();
      const gradients = tf.grads((...[a, b]: tf.Tensor[]) => butterflyMultiply(a, b))([x, twiddle], dy);
      expect(dispatches).toHaveBeenCalledTimes(3);
      await Promise.all(gradients.map((gradient) => gradient.data()));
    });

    it('name a tensor that exceeds a buffer, and leave nothing behind', () => {
      const [x, twiddle] = [tf.zeros([100, 64]), tf.zeros([1, 1, 6, 32, 2, 2])];
      expectTooLarge(
        () => butterflyMultiply(x, twiddle),
        /^butterflyMultiply: x of shape \[100,64\] needs 25600 bytes, but a buffer of this WebGPU device holds 20000\./,
      );
    });
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU butterfly products on a device with all that the adapter offers',
  () => {
    useFlashBackend();

    // Real numbers need no more buffers than every device has: their kernels are those of other specs.
    for (const butterflyCase of FULL_GRID ? realAndComplex : gpuButterflyCases(true)) {
      it(`are right: ${JSON.stringify(butterflyCase)}`, () => expectButterflyRight(butterflyCase));
    }

    it('go there and back at once if they are complex too', async () => {
      const {maxStorageBuffersPerShaderStage: buffers} = (tf.backend() as WebGPUBackend).device.limits;
      const [real, imag] = [tf.randomNormal([9, 64]), tf.randomNormal([9, 64])];
      const [twiddleReal, twiddleImag] = [tf.randomNormal([1, 1, 6, 32, 2, 2]), tf.randomNormal([1, 1, 6, 32, 2, 2])];
      const imaginaryPart = (...[a, b, c, d]: tf.Tensor[]) =>
        butterflyMultiply({real: a, imag: b}, {real: c, imag: d}).imag;
      const dispatches = spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups').and.callThrough();
      const gradients = tf.grads(imaginaryPart)([real, imag, twiddleReal, twiddleImag], tf.ones([9, 64]));
      // Both parts of source and target of either leg, and of the twiddle; what either leg saves.
      expect(dispatches).toHaveBeenCalledTimes(buffers < 10 ? 4 : 3);
      await Promise.all(gradients.map((gradient) => gradient.data()));
    });
  },
  onWebgpu,
);

describeOnBackends(
  'WebGPU layer normalization',
  () => {
    it('gives the same where workgroups are more than a dimension has', async () => {
      const [x, gamma, beta] = [tf.randomNormal([300, 260]), tf.ones([260]), tf.zeros([260])];
      const results = () => {
        const {value, grads} = tf.valueAndGrads((...[a, b, c]: tf.Tensor[]) =>
          layerNorm(a, b as tf.Tensor1D, c as tf.Tensor1D),
        )([x, gamma, beta]);
        return Promise.all([value, ...grads].map((t) => t.data()));
      };
      const expected = await results();
      expect(await withLimits({maxComputeWorkgroupsPerDimension: 7}, results)).toEqual(expected);
    });

    it('takes one dispatch forward, one for dx, and for the gradients of the weights one, or two where rows are many', async () => {
      const dispatches = spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups').and.callThrough();
      for (const [rows, expected] of [
        [8, 3],
        [400, 4],
      ]) {
        const [x, dy] = [tf.randomNormal([rows, 64]), tf.ones([rows, 64])];
        const weights = [tf.ones([64]), tf.zeros([64])];
        dispatches.calls.reset();
        const gradients = tf.grads((...[a, b, c]: tf.Tensor[]) => layerNorm(a, b as tf.Tensor1D, c as tf.Tensor1D))(
          [x, ...weights],
          dy,
        );
        expect(dispatches).toHaveBeenCalledTimes(expected);
        await Promise.all(gradients.map((gradient) => gradient.data()));
      }
    });

    it('makes no gradients of frozen weights that nobody asks for', async () => {
      const x = tf.randomNormal([8, 64]);
      const [gamma, beta] = [tf.ones<tf.Rank.R1>([64]), tf.zeros<tf.Rank.R1>([64])].map((t) => tf.variable(t, false));
      const dispatches = spyOn(GPUComputePassEncoder.prototype, 'dispatchWorkgroups').and.callThrough();
      const dx = tf.grad((t) => layerNorm(t, gamma, beta))(x, x);
      expect(dispatches).toHaveBeenCalledTimes(2);
      await dx.data();
      tf.dispose([gamma, beta]);
    });

    it('names a tensor that exceeds a buffer, and leaves nothing behind', () => {
      const [x, gamma] = [tf.zeros([100, 64]), tf.zeros<tf.Rank.R1>([64])];
      expectTooLarge(
        () => layerNorm(x, gamma, gamma),
        /^layerNorm: x of shape \[100,64\] needs 25600 bytes, but a buffer of this WebGPU device holds 20000\./,
      );
    });
  },
  onWebgpu,
);

describeOnBackends(
  'butterflyMultiply of many rows',
  () => {
    const {enoughWorkgroups} = butterflyShape;
    beforeEach(() => {
      butterflyShape.enoughWorkgroups = 1;
    });
    afterEach(() => {
      butterflyShape.enoughWorkgroups = enoughWorkgroups;
    });

    const cases: ButterflyCase[] = [
      {n: 128, inputSize: 100, outputSize: 150, stacks: 2, leading: [70]},
      {n: 64, inputSize: 64, leading: [139], increasingStride: false, blocks: 2},
      {n: 64, inputSize: 63, outputSize: 62, leading: [70], isComplex: true, transpose: true},
      {n: 4, inputSize: 4, leading: [600]},
      ...(FULL_GRID
        ? [
            {n: 4096, inputSize: 4096, leading: [9]},
            {n: 1024, inputSize: 1024, leading: [9], isComplex: true, increasingStride: false},
          ]
        : []),
    ];
    for (const butterflyCase of cases) {
      it(`is right: ${JSON.stringify(butterflyCase)}`, () => expectButterflyRight(butterflyCase));
    }
  },
  onWebgpu,
);

describe('Passes of a butterfly product', () => {
  const stepsOf = (strides: number[]) => strides.map((logStride, factor) => ({factor, logStride}));
  const upTo = (n: number) => Array.from({length: n}, (_, i) => i);

  it('are one where a workgroup holds all elements, whatever the number of blocks', () => {
    expect(butterflyPasses(stepsOf([...upTo(9), ...upTo(9).reverse()]), 12)).toEqual([
      {firstStep: 0, endStep: 18, lowBit: 0, spanBits: 9, laneBits: 0},
    ]);
  });

  it('leave room for runs of neighbours where the elements are far apart', () => {
    expect(butterflyPasses(stepsOf(upTo(13).reverse()), 12)).toEqual([
      {firstStep: 0, endStep: 8, lowBit: 5, spanBits: 8, laneBits: 4},
      {firstStep: 8, endStep: 13, lowBit: 0, spanBits: 5, laneBits: 0},
    ]);
    expect(butterflyPasses(stepsOf(upTo(13)), 12)).toEqual([
      {firstStep: 0, endStep: 12, lowBit: 0, spanBits: 12, laneBits: 0},
      {firstStep: 12, endStep: 13, lowBit: 12, spanBits: 1, laneBits: 11},
    ]);
  });

  it('are one for rows of 32 KiB where the device gives workgroups so much memory and so many invocations', () => {
    const passesOf = (factors: number, bytes: number, threads: number) =>
      butterflyPasses(stepsOf(upTo(factors)), butterflyTileBits({factors}, limitsOf(bytes, threads))).length;
    expect(passesOf(13, 32768, 1024)).toBe(1);
    expect(passesOf(13, 16384, 1024)).toBe(2);
    expect(passesOf(13, 32768, 256)).toBe(2);
    expect(passesOf(11, 16384, 256)).toBe(1);
    expect(passesOf(12, 16384, 256)).toBe(2);
  });
});

const limitsOf = (bytes: number, threads: number) => ({
  maxComputeWorkgroupStorageSize: bytes,
  maxComputeInvocationsPerWorkgroup: threads,
  maxComputeWorkgroupSizeX: threads,
});

describe('Stages of a butterfly product', () => {
  const stagesOf = (bits: number[], tileBits: number, readsQuads = false) =>
    butterflyStages(
      bits.map((bit, factor) => ({factor, bit})),
      3,
      tileBits,
      {readsQuads, writesQuads: readsQuads},
    );
  const bitsOf = (...shape: Parameters<typeof stagesOf>) => stagesOf(...shape).map((stage) => stage.bits);
  const upTo = (n: number) => Array.from({length: n}, (_, i) => i);

  it('are as few as can be, with neighbouring elements in neighbouring invocations next to memory', () => {
    expect(bitsOf(upTo(10), 10)).toEqual([
      [0, 8, 9],
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
    ]);
    expect(bitsOf(upTo(12).reverse(), 12)).toEqual([
      [9, 10, 11],
      [6, 7, 8],
      [3, 4, 5],
      [0, 1, 2],
      [9, 10, 11],
    ]);
  });

  it('read four neighbours as one, and write them so where the next four are the next invocation’s', () => {
    expect(bitsOf(upTo(9), 9, true)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
      [6, 7, 8],
    ]);
    expect(bitsOf(upTo(9).reverse(), 9, true)).toEqual([
      [6, 7, 8],
      [3, 4, 5],
      [2, 7, 8],
      [0, 1, 8],
    ]);
  });

  it('go on where the order of the factors turns', () => {
    const stages = stagesOf([...upTo(10), ...upTo(10).reverse()], 10);
    expect(stages.map(({steps}) => steps.map(({bit}) => bit))).toEqual([
      [0],
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9, 9, 8, 7],
      [6, 5, 4],
      [3, 2, 1],
      [0],
    ]);
  });

  it('apply every factor once, in order', () => {
    for (const tileBits of [3, 4, 5, 7, 12]) {
      const stages = stagesOf(upTo(tileBits), tileBits);
      expect(stages.flatMap(({steps}) => steps.map(({factor}) => factor))).toEqual(upTo(tileBits));
      for (const {bits} of stages) expect(bits.length).toBe(3);
    }
  });
});

describe('Tiles of a butterfly product', () => {
  const tileOf = (n: number, batch: number, complex = false, saves = false, limits = limitsOf(49152, 1024)) => {
    const factors = Math.log2(n);
    const sizes = {batch, stacks: 1, blocks: 1, n, factors, inputSize: n, outputSize: n, complex};
    return butterflyTile(sizes, batch, {spanBits: factors, laneBits: 0}, saves, limits);
  };

  it('hold several rows where there are many', () => {
    expect([1, 256, 1024, 8192, 65536].map((batch) => tileOf(1024, batch).rows)).toEqual([1, 2, 8, 8, 8]);
    expect([1, 256, 1024, 8192].map((batch) => tileOf(4096, batch).rows)).toEqual([1, 2, 8, 8]);
    expect([1, 8192].map((batch) => tileOf(1024, batch, true).rows)).toEqual([1, 4]);
    expect(tileOf(8192, 4096).rows).toBe(4);
    expect([false, true].map((complex) => tileOf(1024, 8192, complex, true).rows)).toEqual([2, 1]);
  });

  it('have workgroups of at least 128 invocations, unless there are too few rows', () => {
    expect([2, 64, 1024, 4096].map((n) => tileOf(n, 4096).threads)).toEqual([128, 128, 128, 512]);
    expect([2, 64].map((n) => tileOf(n, 3).threads)).toEqual([4, 32]);
  });

  it('take no more workgroup memory than there is', () => {
    for (const bytes of [16384, 32768, 49152]) {
      for (const n of [2, 64, 1024, 4096]) {
        for (const complex of [false, true]) {
          const {threads, elementBits, vectorRows} = tileOf(n, 8192, complex, false, limitsOf(bytes, 1024));
          expect(threads * 2 ** elementBits * vectorRows * 4).toBeLessThanOrEqual(bytes);
        }
      }
    }
  });
});

describe('A grid of workgroups', () => {
  it('holds the count within the limit of each dimension', () => {
    expect(workgroupGrid(65535, 65535)).toEqual([65535, 1]);
    expect(workgroupGrid(65536, 65535)).toEqual([32768, 2]);
    const [x, y] = workgroupGrid(1_000_003, 65535);
    expect(x * y).toBeGreaterThanOrEqual(1_000_003);
    expect(Math.max(x, y)).toBeLessThanOrEqual(65535);
  });
});
