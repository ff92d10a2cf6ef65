/**
 * What is special about the WebGL kernels: chunks of keys, programs for all sizes, what programs make, textures' shapes and
 * limits.
 */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import * as tf from '@tensorflow/tfjs-core';
import {chunkLimits} from '../../kernels/webgl/key_chunks.js';
import {compiledCount, targetLimits} from '../../kernels/webgl/render_targets.js';
import {BlockLayout, type BlockSparseMode, blockSparseMatMul, flashAttention, layerNorm} from '../../src/index.js';
import {denseMatMul} from '../../src/ops/dense_mat_mul.js';
import {type AttentionCase, describeCase} from '../attention_cases.js';
import {expectRight} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';
import {expectProductRight, type ProductCase} from '../block_sparse_results.js';
import {expectDenseProductRight} from '../dense_mat_mul_results.js';
import {expectLayerNormRight} from '../layer_norm_results.js';
import {describeInNarrowTextures} from '../narrow_textures.js';
import {expectRotaryRight} from '../rotary_results.js';

const MAX_SIDE = 'WEBGL_MAX_TEXTURE_SIZE';
const onWebgl = {predicate: ({backendName}: {backendName: string}) => backendName === 'webgl'};

const base = {B: 2, H: 2, Hk: 2, Sq: 37, Sk: 53, D: 16, Dv: 16};
const chunked: AttentionCase[] = [
  base,
  {...base, causal: true},
  {...base, Sq: 53, Sk: 37, window: [9, 2]},
  {...base, H: 4, order: 'BSHD', causal: true, D: 7, Dv: 9},
  {...base, queryLengths: [30, 0], keyLengths: [41, 53], dropout: {rate: 0.3, seed: 5}},
  {...base, bias: 'HQK', alibi: 'H'},
  {...base, bias: 'Q', mask: 'K', softcap: 4, alibi: 'BH'},
  {...base, window: [9, 2], bias: 'HQK'},
  {...base, bias: 'K', causal: true},
  // Chunks of several columns of blocks, of tiles that are two blocks wide, and of parts of one column.
  {...base, layout: {blockSize: [8, 8], density: 0.5}},
  {...base, layout: {blockSize: [5, 3], density: 0.5, perHead: true}, bias: 'HQK', alibi: 'H'},
  {...base, layout: {blockSize: [16, 64], density: 1}, causal: true, bias: 'K'},
];

describeOnBackends(
  'WebGL attention in several chunks of keys',
  () => {
    const limits = {...chunkLimits};
    beforeAll(() => Object.assign(chunkLimits, {scores: 1, minKeys: 16}));
    afterAll(() => Object.assign(chunkLimits, limits));

    for (const attentionCase of chunked) {
      it(describeCase(attentionCase), () => expectRight(attentionCase));
    }
  },
  onWebgl,
);

describeInNarrowTextures('WebGL attention', 64, () => {
  for (const attentionCase of [
    {...base, bias: 'HQK', alibi: 'H', causal: true},
    {...base, H: 4, order: 'BSHD', D: 7, Dv: 9, dropout: {rate: 0.3, seed: 5}},
    {...base, layout: {blockSize: [8, 16], density: 0.5, perHead: true}, bias: 'K', causal: true},
  ] satisfies AttentionCase[]) {
    // The formula's own scores do not fit there.
    it(`finds its way: ${describeCase(attentionCase)}`, () => expectRight(attentionCase, 'cpu'));
  }
});

describeInNarrowTextures('WebGL dense products', 64, () => {
  it('find their way', async () => {
    await expectDenseProductRight({rows: 67, columns: 131, inner: 35, hasBias: true});
    await expectDenseProductRight({rows: 60, columns: 133, inner: 37, transposeA: true, transposeB: true});
  });
});

/** Runs specs as on a device that draws to no more textures of 32-bit floats at once. */
function describeWithTargets(most: number, name: string, specs: () => void): void {
  describeOnBackends(
    name,
    () => {
      const limits = {...targetLimits};
      beforeAll(() => Object.assign(targetLimits, {most}));
      afterAll(() => Object.assign(targetLimits, limits));
      specs();
    },
    onWebgl,
  );
}

describeWithTargets(4, 'WebGL with four render targets', () => {
  it('has attention with smaller register tiles', async () => {
    await expectRight({...base, H: 4, causal: true, bias: 'HQK', alibi: 'H', mask: 'K'});
    await expectRight({...base, order: 'BSHD', D: 7, Dv: 9, dropout: {rate: 0.3, seed: 5}});
    await expectRight({...base, layout: {blockSize: [12, 4], density: 0.5}, softcap: 4});
  });
});

describeWithTargets(1, 'WebGL without render targets of 32-bit floats', () => {
  it('has attention all the same', async () => {
    await expectRight({...base, H: 4, causal: true, bias: 'HQK', alibi: 'H'});
    await expectRight({...base, order: 'BSHD', D: 7, Dv: 9, dropout: {rate: 0.3, seed: 5}});
  });

  it('leaves dense products to tfjs', async () => {
    const compiled = compiledCount(tf.backend() as MathBackendWebGL);
    await expectDenseProductRight({rows: 100, columns: 68, inner: 72, hasBias: true});
    expect(compiledCount(tf.backend() as MathBackendWebGL)).toBe(compiled);
  });
});

describeOnBackends(
  'WebGL attention programs',
  () => {
    it('make no more scores than the live blocks of a layout have', () => {
      const [heads, S, blockSize] = [2, 512, 32];
      const layout = BlockLayout.slidingWindow(S, {window: [32, 32], blockSize});
      const made = spyOn(tf.backend() as MathBackendWebGL, 'makeTensorInfo').and.callThrough();
      tf.tidy(() => {
        const q = tf.ones<tf.Rank.R4>([1, heads, S, 8]);
        const bias = tf.ones<tf.Rank.R2>([1, S]);
        tf.grads((x, b) => flashAttention(x as tf.Tensor4D, q, q, {layout, bias: b}))([q, bias]);
      });
      layout.dispose();
      const largest = Math.max(...made.calls.allArgs().map(([shape]) => tf.util.sizeFromShape(shape)));
      // In eight planes.
      expect(largest).toBe((heads * layout.nnz * blockSize ** 2) / 8);
    });

    it('are compiled once for all sequence lengths', async () => {
      await trainingStep(33, 40);
      const compiled = attentionPrograms();
      for (const [Sq, Sk] of [
        [34, 41],
        [64, 129],
        [200, 77],
      ]) {
        await trainingStep(Sq, Sk);
      }
      expect(compiled).toBeGreaterThan(0);
      expect(attentionPrograms()).toBe(compiled);
    });
  },
  onWebgl,
);

const productModes: BlockSparseMode[] = ['sdd', 'dsd', 'dds'];
const product = {transposeA: false, transposeB: true, density: 0.5, blockSize: 8, free: 5};

describeOnBackends(
  'WebGL block-sparse products',
  () => {
    it('make live blocks and dense operands, in one pass each', () => {
      const layout = butterfly(256, 16);
      const [x, w, dy] = [tf.ones([4, 256]), tf.ones([layout.nnz, 16, 16]), tf.ones([4, 256])];
      const step = () =>
        tf.tidy(() => {
          tf.grads((a, b) => blockSparseMatMul(a, b, {layout, mode: 'dds'}))([x, w], dy);
        });
      step();
      // From the second time on nothing is uploaded.
      const run = spyOn(tf.backend() as MathBackendWebGL, 'runWebGLProgram').and.callThrough();
      step();
      const made = run.calls.allArgs().map(([{outputShape}]) => tf.util.sizeFromShape(outputShape));
      expect(made.sort((m, n) => m - n)).toEqual([x.size, x.size, w.size]);
      layout.dispose();
    });

    it('are compiled once for all sizes', () => {
      const step = (size: number, blockSize: number, rows: number) => {
        const layout = butterfly(size, blockSize);
        tf.tidy(() => {
          const w = tf.ones([layout.nnz, blockSize, blockSize]);
          tf.grads((a, b) => blockSparseMatMul(a, b, {layout, mode: 'dds'}))([tf.ones([rows, size]), w]);
        });
        layout.dispose();
      };
      step(64, 8, 5);
      const compiled = programCount('rowSize');
      step(96, 8, 4);
      step(256, 32, 11);
      expect(compiled).toBeGreaterThan(0);
      expect(programCount('rowSize')).toBe(compiled);
    });

    for (const mode of productModes) {
      const manyBlocks: ProductCase = {...product, mode, blockSize: 2, free: 3, heads: 400};
      it(`tell more blocks apart than half floats could: ${mode}`, () => expectProductRight(manyBlocks));

      it(`find their way in textures narrower than a block: ${mode}`, async () => {
        const side = tf.env().getNumber(MAX_SIDE);
        tf.env().set(MAX_SIDE, 32);
        try {
          await expectProductRight({...product, mode, leading: [3]});
          await expectProductRight({...product, mode, leading: [3], transposeA: true, transposeB: false});
        } finally {
          tf.env().set(MAX_SIDE, side);
        }
      });
    }
  },
  onWebgl,
);

describeOnBackends(
  'WebGL layer normalization',
  () => {
    const step = (rows: number, width: number) =>
      tf.tidy(() => {
        const [x, gamma, beta] = [tf.ones([rows, width]), tf.ones([width]), tf.zeros([width])];
        tf.grads((...[a, b, c]: tf.Tensor[]) => layerNorm(a, b as tf.Tensor1D, c as tf.Tensor1D))([x, gamma, beta]);
      });

    it('takes two passes forward, two for dx and three for the weights, and more where a row is long', () => {
      const run = spyOn(tf.backend() as MathBackendWebGL, 'runWebGLProgram').and.callThrough();
      const passes = () => run.calls.allArgs().filter(([{userCode}]) => userCode.includes('matrixRows')).length;
      step(6, 64);
      expect(passes()).toBe(7);
      run.calls.reset();
      step(6, 2048);
      expect(passes()).toBe(9);
    });

    it('is compiled once for all sizes', () => {
      // tfjs itself tells apart textures that fit their matrix, and matrices of one row.
      step(6, 64);
      step(300, 2048);
      const compiled = programCount('matrixRows');
      step(30, 96);
      step(400, 3000);
      expect(compiled).toBeGreaterThan(0);
      expect(programCount('matrixRows')).toBe(compiled);
    });

    it('finds its way in textures narrower than a row', async () => {
      const side = tf.env().getNumber(MAX_SIDE);
      tf.env().set(MAX_SIDE, 32);
      try {
        await expectLayerNormRight({shape: [5, 131]});
      } finally {
        tf.env().set(MAX_SIDE, side);
      }
    });
  },
  onWebgl,
);

describeOnBackends(
  'WebGL rotary position embedding',
  () => {
    it('finds its way in textures narrower than a head', async () => {
      const side = tf.env().getNumber(MAX_SIDE);
      tf.env().set(MAX_SIDE, 32);
      try {
        await expectRotaryRight({shape: [1, 9, 3, 70], first: 4});
      } finally {
        tf.env().set(MAX_SIDE, side);
      }
    });
  },
  onWebgl,
);

describeOnBackends(
  'WebGL texture limits',
  () => {
    it('are checked before any work, with the name and the shape', () => {
      const q = tf.zeros<tf.Rank.R4>([1, 2, 40, 16]);
      const k = tf.zeros<tf.Rank.R4>([1, 2, 300, 16]);
      const layout = butterfly(64, 8);
      const [x, values] = [tf.zeros<tf.Rank.R2>([200, 64]), tf.zeros([layout.nnz, 8, 8])];
      const w = tf.zeros<tf.Rank.R2>([64, 64]);
      const gamma = tf.ones<tf.Rank.R1>([64]);
      const side = tf.env().getNumber(MAX_SIDE);
      const {numTensors, numDataBuffers} = tf.memory();
      tf.env().set(MAX_SIDE, 32);
      try {
        expect(() => flashAttention(q, k, k)).toThrowError(
          'flashAttention: k of shape [1,2,300,16] needs 2400 texels, but a texture of this WebGL device holds 32 × 32 = 1024.',
        );
        expect(() => blockSparseMatMul(x, values, {layout, mode: 'dds'})).toThrowError(
          'blockSparseMatMul: a of shape [1,1,200,64] needs 3200 texels, but a texture of this WebGL device holds 32 × 32 = 1024.',
        );
        expect(() => denseMatMul(x, w)).toThrowError(
          'denseMatMul: a of shape [200,64] needs 3200 texels, but a texture of this WebGL device holds 32 × 32 = 1024.',
        );
        expect(() => layerNorm(x, gamma, gamma)).toThrowError(
          'layerNorm: x of shape [200,64] needs 3200 texels, but a texture of this WebGL device holds 32 × 32 = 1024.',
        );
      } finally {
        tf.env().set(MAX_SIDE, side);
      }
      expect(tf.memory().numTensors).toBe(numTensors);
      expect(tf.memory().numDataBuffers).toBe(numDataBuffers);
    });
  },
  onWebgl,
);

function butterfly(size: number, blockSize: number): BlockLayout {
  return BlockLayout.flatButterfly({rows: size, cols: size, blockSize, butterflySize: 4, factors: 1});
}

async function trainingStep(Sq: number, Sk: number): Promise<void> {
  const gradients = tf.tidy(() => {
    const q = tf.randomNormal<tf.Rank.R4>([2, 3, Sq, 16]);
    const k = tf.randomNormal<tf.Rank.R4>([2, 3, Sk, 16]);
    const bias = tf.randomNormal<tf.Rank.R4>([2, 3, Sq, Sk]);
    return tf.grads((...xs: tf.Tensor[]) =>
      flashAttention(xs[0] as tf.Tensor4D, xs[1] as tf.Tensor4D, xs[1] as tf.Tensor4D, {causal: true, bias}),
    )([q, k], tf.randomNormal([2, 3, Sq, 16]));
  });
  await Promise.all(gradients.map((gradient) => gradient.data()));
  tf.dispose(gradients);
}

function attentionPrograms(): number {
  return programCount('chunkStart') + compiledCount(tf.backend() as MathBackendWebGL);
}

/** Programs that have this uniform: tfjs compiles its ops anew for some shapes. */
function programCount(uniform: string): number {
  const {binaryCache} = tf.backend() as MathBackendWebGL & {binaryCache: Record<string, unknown>};
  return Object.keys(binaryCache).filter((key) => key.includes(uniform)).length;
}
