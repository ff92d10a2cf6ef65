/** One attention call on the WebGL backend: runs its programs over chunks of keys, and frees what it made. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {engine, env, getKernel, type Tensor, type TensorInfo, Transpose} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, attentionSizes, dropoutThreshold} from '../attention_sizes.js';
import {type AttentionVariant, attentionUniforms} from './attention_glsl.js';
import {entryCount, type KeyChunk, WHOLE} from './key_chunks.js';
import {tilesOf, tileTextures} from './live_tiles.js';
import {type PackedProgram, runPackedProgram, type Textures} from './packed_program.js';
import {assembleProgram, planeShape, planesNamed} from './register_tiles_glsl.js';
import {type RenderTargetsProgram, runRenderTargetsProgram, supportsTargets} from './render_targets.js';
import {assertTexturesFit} from './texture_limits.js';

/** Stands for "no limit" in a window: beyond any sequence, yet sums of a few stay within int32. */
const UNLIMITED = 2 ** 28;

export class AttentionRun {
  readonly sizes: AttentionSizes;
  readonly variant: AttentionVariant;
  private readonly made = new Set<TensorInfo>();
  private readonly common: Record<string, number[]>;

  constructor(
    readonly backend: MathBackendWebGL,
    readonly inputs: FlashAttentionInputs,
    readonly attrs: FlashAttentionAttrs,
  ) {
    this.sizes = attentionSizes(inputs, attrs.order);
    this.variant = {
      order: attrs.order,
      bias: Boolean(inputs.bias),
      mask: Boolean(inputs.mask),
      slopes: Boolean(inputs.alibiSlopes),
      queryLengths: Boolean(inputs.queryLengths),
      keyLengths: Boolean(inputs.keyLengths),
      softcap: attrs.softcap > 0,
      dropout: attrs.dropoutRate > 0,
      layout: attrs.layout !== null,
      side: registerSide(backend, attrs),
    };
    this.common = commonUniforms(inputs, attrs, this.sizes);
  }

  /** Throws an error that names the tensor and its shape if a texture that the call needs does not fit. */
  assertTexturesFit(): void {
    const {batch, heads, queries, valueDepth} = this.sizes;
    const {q, k, v, bias, mask} = this.inputs;
    assertTexturesFit('flashAttention', {
      q: q.shape,
      k: k.shape,
      v: v.shape,
      bias: bias?.shape,
      mask: mask?.shape,
      output: [batch, heads, queries, valueDepth],
      // The smallest chunk there is holds two keys.
      'the scores of q with two keys': [batch * heads, queries, 2],
    });
  }

  /** Runs a program for a chunk; the result belongs to this call until it is released or returned. */
  make(program: PackedProgram, shape: number[], textures: Textures, chunk: KeyChunk): TensorInfo {
    const values = uniformValues(this.common, chunk);
    const result = runPackedProgram(this.backend, program, shape, textures, attentionUniforms, values);
    this.made.add(result);
    return result;
  }

  /** The same for a program that makes planes of matrices of this shape (register_tiles_glsl.ts). */
  makePlanes(program: RenderTargetsProgram, shape: number[], textures: Textures, chunk: KeyChunk): TensorInfo[] {
    const values = uniformValues(this.common, chunk);
    const ofPlane = planeShape(shape, this.variant.side);
    const planes = runRenderTargetsProgram(this.backend, program, ofPlane, textures, attentionUniforms, values);
    for (const plane of planes) this.made.add(plane);
    return planes;
  }

  /** The matrices [batch, heads, rows, columns] whose planes these are, and which are freed; sides by their uniforms. */
  assemble(planes: TensorInfo[], rows: 'queries' | 'keys', columns: 'depth' | 'valueDepth'): TensorInfo {
    if (planes.length === 1) return planes[0];
    const program = assembleProgram(this.variant.side, rows, columns);
    const result = this.make(program, this.resultShape(rows, columns), planesNamed('plane', planes), WHOLE);
    this.release(...planes);
    return result;
  }

  /** [batch, heads, queries, columns] or [batch, keyHeads, keys, columns]. */
  resultShape(rows: 'queries' | 'keys', columns: 'depth' | 'valueDepth'): number[] {
    const {sizes} = this;
    return [sizes.batch, rows === 'keys' ? sizes.keyHeads : sizes.heads, sizes[rows], sizes[columns]];
  }

  /** Frees results that are needed no more. */
  release(...tensors: (TensorInfo | undefined)[]): void {
    for (const tensor of tensors) {
      if (tensor && this.made.delete(tensor)) this.backend.disposeIntermediateTensorInfo(tensor);
    }
  }

  /** A result as a tensor of the surrounding tidy, which frees it from now on. */
  handOver(result: TensorInfo): Tensor {
    this.made.delete(result);
    return engine().makeTensorFromTensorInfo(result);
  }

  /** Frees everything but the results that `body` returns; all of it if `body` throws. */
  finish(body: () => TensorInfo[]): TensorInfo[] {
    try {
      const results = body();
      for (const result of results) this.made.delete(result);
      return results;
    } finally {
      this.release(...this.made);
    }
  }

  /** The shape of row textures: two numbers per query row. */
  get rowShape(): number[] {
    const {batch, heads, queries} = this.sizes;
    return [batch, heads, queries, 2];
  }

  /** The shape of the scores of a chunk. */
  scoreShape({tiles}: KeyChunk): number[] {
    return [entryCount(this.attrs, this.sizes) * tiles.count, tiles.queries, tiles.keys];
  }

  /** What leads programs to the chunk's tiles. */
  indexTextures({tiles}: KeyChunk): Textures {
    const {layout} = this.attrs;
    return layout ? tileTextures(this.backend, layout, tiles.columns) : {};
  }

  /** The optional inputs as programs read them: of rank 2 at least, because rank 1 is packed differently. */
  get options(): Textures {
    const {bias, mask, alibiSlopes, queryLengths, keyLengths} = this.inputs;
    const asRow = (lengths: TensorInfo | undefined) => lengths && {...lengths, shape: [1, lengths.shape[0]]};
    return {bias, mask, alibiSlopes, queryLengths: asRow(queryLengths), keyLengths: asRow(keyLengths)};
  }
}

/** A result in BHSD order, in the order that the call has. */
export function inCallOrder(run: AttentionRun, result: TensorInfo): TensorInfo {
  if (run.attrs.order === 'BHSD') return result;
  // Not as an op: in tests tfjs would then forget which data of this kernel, index textures, is to stay.
  const {kernelFunc} = getKernel(Transpose, 'webgl');
  const transposed = kernelFunc({inputs: {x: result}, backend: run.backend, attrs: {perm: [0, 2, 1, 3]}}) as TensorInfo;
  run.release(result);
  return transposed;
}

/** Register tiles must not straddle live tiles. */
function registerSide(backend: MathBackendWebGL, {layout}: FlashAttentionAttrs): AttentionVariant['side'] {
  const fit = !layout || tilesOf(layout).blockSize.every((size) => size % 4 === 0);
  return fit && supportsTargets(backend, 4) ? 2 : 1;
}

function uniformValues(common: Record<string, number[]>, {start, count, isLast, tiles}: KeyChunk): number[][] {
  const ofChunk: Record<string, number[]> = {
    chunkStart: [start],
    chunkKeys: [count],
    isLastChunk: [Number(isLast)],
    tileCount: [tiles.count],
    tileQueries: [tiles.queries],
    tileKeys: [tiles.keys],
    tileColumns: [tiles.columns.end - tiles.columns.first],
  };
  return attentionUniforms.map(({name}) => ofChunk[name] ?? common[name]);
}

function commonUniforms(
  inputs: FlashAttentionInputs,
  attrs: FlashAttentionAttrs,
  sizes: AttentionSizes,
): Record<string, number[]> {
  const limit = (keys: number) => (keys < 0 ? UNLIMITED : Math.min(keys, UNLIMITED));
  // Half-float textures end at 65504, and what lies beyond becomes infinite.
  const [hiddenScore, lowestMaximum] = env().getBool('WEBGL_RENDER_FLOAT32_ENABLED') ? [-3e38, -1e37] : [-6e4, -3e4];
  const single = {
    ...sizes,
    left: limit(attrs.left),
    right: limit(attrs.right),
    slopeBatches: inputs.alibiSlopes?.shape[0] ?? 1,
    dropoutSeed: attrs.dropoutSeed | 0,
    dropoutThreshold: dropoutThreshold(attrs.dropoutRate) | 0,
    dropoutFactor: 1 / (1 - attrs.dropoutRate),
    scale: attrs.scale,
    softcap: attrs.softcap,
    hiddenScore,
    lowestMaximum,
    tileRows: attrs.layout ? tilesOf(attrs.layout).rowBlocks : 1,
    patterns: attrs.layout?.heads ?? 1,
    blockQueries: attrs.layout?.blockSize[0] ?? 1,
    blockKeys: attrs.layout?.blockSize[1] ?? 1,
  };
  return {
    ...Object.fromEntries(Object.entries(single).map(([name, value]) => [name, [value]])),
    biasSizes: inputs.bias?.shape ?? [1, 1, 1, 1],
    maskSizes: inputs.mask?.shape ?? [1, 1, 1, 1],
  };
}
