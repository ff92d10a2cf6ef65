/** One attention call on the WebGL backend: runs its programs over chunks of keys, and frees what it made. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {engine, env, getKernel, type Tensor, type TensorInfo, Transpose} from '@tensorflow/tfjs-core';
import type {FlashAttentionAttrs, FlashAttentionInputs} from '../../src/kernel_names.js';
import {type AttentionSizes, attentionSizes, dropoutThreshold} from '../attention_sizes.js';
import {
  type AttentionVariant,
  attentionUniforms,
  columnsInput,
  copyProgram,
  depthOf,
  type Operand,
  rowsOf,
} from './attention_glsl.js';
import {entryCount, type KeyChunk, WHOLE} from './key_chunks.js';
import {tilesOf, tileTextures} from './live_tiles.js';
import {type PackedProgram, runPackedProgram, type Textures} from './packed_program.js';
import {
  type Planes,
  type PlanesProgram,
  planesNamed,
  quadCount,
  REGISTER_TILES,
  type RegisterTile,
} from './register_tiles_glsl.js';
import {runPlanesProgram, supportsTargets} from './render_targets.js';
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
    const tile = registerTile(backend, attrs, this.sizes);
    this.variant = {
      order: quadCount(tile) === 1 ? attrs.order : 'BHSD',
      bias: Boolean(inputs.bias),
      mask: Boolean(inputs.mask),
      slopes: Boolean(inputs.alibiSlopes),
      queryLengths: Boolean(inputs.queryLengths),
      keyLengths: Boolean(inputs.keyLengths),
      softcap: attrs.softcap > 0,
      dropout: attrs.dropoutRate > 0,
      layout: attrs.layout !== null,
      tile,
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
  makePlanes(program: PlanesProgram, shape: number[], textures: Textures, chunk: KeyChunk): Planes {
    const values = uniformValues(this.common, chunk);
    const planes = runPlanesProgram(this.backend, program, shape, textures, attentionUniforms, values);
    for (const texture of planes.textures) this.made.add(texture);
    return planes;
  }

  /** A result of this shape with what the chunk's planes add to it (result_programs.ts); frees these and what it was. */
  addTo(
    previous: TensorInfo | undefined,
    planes: Planes,
    program: PackedProgram,
    shape: number[],
    textures: Textures,
    chunk: KeyChunk,
  ): TensorInfo {
    const result = this.make(program, shape, {...textures, ...planesNamed('plane', planes), previous}, chunk);
    this.release(planes, previous);
    return result;
  }

  /** The matrices by their variables, in the order that programs read them in. */
  operands(matrices: Partial<Record<Operand, TensorInfo>>): Textures {
    const {attrs, variant} = this;
    if (attrs.order === variant.order) return matrices;
    const copies = (Object.entries(matrices) as [Operand, TensorInfo][]).map(([operand, matrix]) => {
      const shape = this.resultShape(rowsOf(operand), depthOf(operand));
      return [operand, this.make(copyProgram(attrs.order, operand, false), shape, {[operand]: matrix}, WHOLE)];
    });
    return Object.fromEntries(copies);
  }

  /** The textures from which scores take their columns (`columnsInput`). */
  columns(matrices: Partial<Record<'k' | 'v', TensorInfo>>): Textures {
    const {attrs, variant} = this;
    if (quadCount(variant.tile) === 1) return matrices;
    const copies = (Object.entries(matrices) as ['k' | 'v', TensorInfo][]).map(([operand, matrix]) => {
      const [batch, keyHeads, keys, depth] = this.resultShape('keys', depthOf(operand));
      const shape = [batch, keyHeads, depth, keys];
      const copy = this.make(copyProgram(attrs.order, operand, true), shape, {[operand]: matrix}, WHOLE);
      return [columnsInput(variant, operand), copy];
    });
    return Object.fromEntries(copies);
  }

  /** [batch, heads, queries, columns] or [batch, keyHeads, keys, columns]. */
  resultShape(rows: 'queries' | 'keys', columns: 'depth' | 'valueDepth'): number[] {
    const {sizes} = this;
    return [sizes.batch, rows === 'keys' ? sizes.keyHeads : sizes.heads, sizes[rows], sizes[columns]];
  }

  /** Frees results that are needed no more. */
  release(...results: (TensorInfo | Planes | undefined)[]): void {
    for (const tensor of results.flatMap((result) => (result && 'textures' in result ? result.textures : [result]))) {
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

/** The largest that queries are enough for, that does not straddle live tiles, and that the device has render targets for. */
function registerTile(
  backend: MathBackendWebGL,
  {layout}: FlashAttentionAttrs,
  {queries}: AttentionSizes,
): RegisterTile {
  const [rows, columns] = layout ? tilesOf(layout).blockSize : [0, 0];
  const fits = ({down, across}: RegisterTile) =>
    2 * (down - 1) < queries && rows % (2 * down) === 0 && columns % (2 * across) === 0;
  return REGISTER_TILES.find(
    (tile) => quadCount(tile) === 1 || (fits(tile) && supportsTargets(backend, quadCount(tile))),
  ) as RegisterTile;
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
