/** The layer `flashMultiHeadAttention`: Keras's MultiHeadAttention on `flashAttention`, and what language models add. */
import {
  cast,
  greaterEqual,
  logicalAnd,
  range,
  reshape,
  serialization,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tidy,
} from '@tensorflow/tfjs-core';
import {initializers, type LayerVariable, layers, type Shape, type SymbolicTensor} from '@tensorflow/tfjs-layers';
import type {AttentionPrecision} from '../kernel_names.js';
import {checkPrecision, MAX_DEPTH} from '../ops/attention_arguments.js';
import {flashAttention} from '../ops/flash_attention.js';
import {reshapeIfNeeded} from '../ops/reshape_if_needed.js';
import type {BlockLayout, BlockLayoutJson} from '../sparsity/block_layout.js';
import {AttentionLayouts, type AttentionPattern, layoutMask} from './attention_layouts.js';
import {floatRows, type Regularizer} from './dense_like.js';
import {fromIdentifier, type Identifier, toIdentifier} from './from_identifier.js';
import type {Initializer} from './live_blocks_initializer.js';
import {Projection} from './projection.js';
import {RotaryEmbedding} from './rotary_embedding.js';
import {type LayerAttentionOptions, standardAttention} from './standard_attention.js';

type LayerArgs = NonNullable<ConstructorParameters<typeof layers.Layer>[0]>;
type Kwargs = Parameters<layers.Layer['call']>[1];

/** What an input of the layer is. */
export type AttentionInputName = 'query' | 'value' | 'key' | 'attentionMask' | 'valueMask' | 'keyMask';

/** Options of {@link flashMultiHeadAttention}; those of Keras's MultiHeadAttention mean what they mean there. */
export interface FlashMultiHeadAttentionArgs extends LayerArgs {
  /** H, query heads. */
  numHeads: number;
  /** Elements of a head of queries and keys, from 1 to 256. */
  keyDim: number;
  /** Elements of a head of values, from 1 to 256. Default `keyDim`. */
  valueDim?: number;
  /** Hk, heads of keys and values, of which H is a multiple: grouped-query attention. Default `numHeads`. */
  numKvHeads?: number;
  /** Whether the four projections have a bias. Default true. */
  useBias?: boolean;
  /** Elements of the output's last axis. Default those of the query's. */
  outputShape?: number | [number];
  /** Query i sees key j iff j ≤ i + Sk − Sq: aligned at the bottom right. Default false. */
  causal?: boolean;
  /** As Keras's argument of `call`: query i sees key j iff j ≤ i, aligned at the top left. Default false. */
  useCausalMask?: boolean;
  /** [left, right], as in `flashAttention`: keys that far before and after the diagonal are visible; −1 sets no limit. */
  window?: [left: number, right: number];
  /** Scores s become softcap·tanh(s / softcap). */
  softcap?: number;
  /** Factor on q·k. Default 1/√keyDim. */
  scale?: number;
  /** In training, the part of the attention probabilities that is dropped, in [0, 1). Default 0. */
  dropout?: number;
  /** Makes dropout the same every time. */
  seed?: number;
  /**
   * Rotary position embedding (RoFormer, arXiv 2104.09864) of queries and keys, with the halves of a head as pairs, as in
   * GPT-NeoX and Llama. `base` is 10000 unless given. `keyDim` must be even. Default false.
   */
  rotary?: boolean | {base: number};
  /** 'flash' (default), or 'standard': the same with tfjs's matMul and softmax, which write the score matrix. */
  attention?: 'flash' | 'standard';
  /** As in `flashAttention`: 'highest' (default), or 'fast', which multiplies in float16 on GPUs that can. */
  precision?: AttentionPrecision;
  /** Block-sparse attention: a layout that covers [Sq, Sk], or a pattern that makes one for the lengths that come. */
  layout?: BlockLayout | BlockLayoutJson | AttentionPattern;
  /**
   * Fine-tuning by low-rank additions of this rank to the four projections (LoRA, arXiv 2106.09685). The other weights
   * are not trained then.
   */
  loraRank?: number;
  /** The addition is A·B·loraAlpha / loraRank. Default `loraRank`. */
  loraAlpha?: number;
  /** Default 'glorotUniform'. */
  kernelInitializer?: Identifier<Initializer>;
  /** Default 'zeros'. */
  biasInitializer?: Identifier<Initializer>;
  kernelRegularizer?: Identifier<Regularizer>;
  biasRegularizer?: Identifier<Regularizer>;
  /**
   * What the inputs are, in their order. Default as many as there are of query, value, key, attentionMask. The value is the
   * query, and the key the value, where they are not among them: ['query', 'attentionMask'] is masked self-attention.
   */
  inputNames?: AttentionInputName[];
}

/** Keys and values of the tokens so far, for {@link FlashMultiHeadAttention.callWithCache}. */
export interface AttentionCache {
  /** Tokens so far. */
  readonly length: number;
  /** Adds keys [B, Sn, Hk, D] and values [B, Sn, Hk, Dv] of Sn further tokens. */
  append(keys: Tensor4D, values: Tensor4D): void;
  /** [B, capacity, Hk, D] */
  readonly keys: Tensor4D;
  /** [B, capacity, Hk, Dv] */
  readonly values: Tensor4D;
  /** int32 [B]: how many of the keys exist. */
  readonly keyLengths: Tensor1D;
}

/** Keyword arguments of `apply` with tensors. In a model, masks are inputs of the layer, or come from a masking layer. */
export interface AttentionCallOptions {
  /** bool or int32, [B, Sk], [B, Sq, Sk], or what broadcasts to [B, H, Sq, Sk]: 1 where the key is visible. */
  attentionMask?: Tensor;
  /** [B, Sk]: 1 for keys that exist. */
  valueMask?: Tensor;
  /** [B, Sk]: 1 for keys that exist. */
  keyMask?: Tensor;
  useCausalMask?: boolean;
  training?: boolean;
  /** What tfjs passes on from a masking layer: the mask of the first input. */
  mask?: Tensor | Tensor[];
}

const POSITIONAL_NAMES: AttentionInputName[] = ['query', 'value', 'key', 'attentionMask'];
const INPUT_NAMES: AttentionInputName[] = [...POSITIONAL_NAMES, 'valueMask', 'keyMask'];
/** Arguments of Keras's layer that must have their default here. */
const UNSUPPORTED_ARGUMENTS = ['kernelConstraint', 'biasConstraint', 'activityRegularizer'];
const DEFAULT_ROTARY_BASE = 10000;

type NamedInputs<T> = {query: T} & Partial<Record<AttentionInputName, T>>;

interface Projections {
  query: Projection;
  key: Projection;
  value: Projection;
  output: Projection;
}

/** The layer that {@link flashMultiHeadAttention} makes. */
export class FlashMultiHeadAttention extends layers.Layer {
  static className = 'FlashMultiHeadAttention';

  private readonly numHeads: number;
  private readonly numKvHeads: number;
  private readonly keyDim: number;
  private readonly valueDim: number;
  private readonly useBias: boolean;
  /** Elements of the output's last axis: given, or, once built, those of the query's. */
  private outputs: number | undefined;
  private readonly options: Pick<LayerAttentionOptions, 'scale' | 'causal' | 'window' | 'softcap' | 'precision'>;
  private readonly useCausalMask: boolean;
  private readonly dropout: number;
  private readonly seed: number | undefined;
  private readonly rotaryBase: number | undefined;
  private readonly rotary: RotaryEmbedding | undefined;
  private readonly attention: 'flash' | 'standard';
  private readonly layouts: AttentionLayouts | undefined;
  private readonly loraAlpha: number | undefined;
  private loraRank: number;
  private readonly kernelInitializer: Initializer;
  private readonly biasInitializer: Initializer;
  private readonly kernelRegularizer: Regularizer | undefined;
  private readonly biasRegularizer: Regularizer | undefined;
  private readonly inputNames: AttentionInputName[] | undefined;
  private projections: Projections | undefined;
  private dropoutsMade = 0;

  constructor(args: FlashMultiHeadAttentionArgs) {
    super(args);
    this.supportsMasking = true;
    assertSupported(args);
    const [outputs] = [args.outputShape ?? undefined].flat();
    this.numHeads = positiveInteger('numHeads', args.numHeads);
    this.numKvHeads = positiveInteger('numKvHeads', args.numKvHeads ?? args.numHeads);
    this.keyDim = positiveInteger('keyDim', args.keyDim, MAX_DEPTH);
    this.valueDim = positiveInteger('valueDim', args.valueDim ?? args.keyDim, MAX_DEPTH);
    this.outputs = outputs === undefined ? undefined : positiveInteger('outputShape', outputs);
    this.loraRank = args.loraRank == null ? 0 : positiveInteger('loraRank', args.loraRank);
    if (this.numHeads % this.numKvHeads !== 0) {
      fail(`numHeads must be a multiple of numKvHeads, got ${this.numHeads} and ${this.numKvHeads}.`);
    }
    this.useBias = args.useBias ?? true;
    this.options = attentionOptions(args);
    this.useCausalMask = args.useCausalMask ?? false;
    this.dropout = args.dropout ?? 0;
    if (!(this.dropout >= 0 && this.dropout < 1)) fail(`dropout must be at least 0 and below 1, got ${this.dropout}.`);
    this.seed = args.seed ?? undefined;
    this.rotaryBase = rotaryBaseOf(args);
    if (this.rotaryBase !== undefined) this.rotary = new RotaryEmbedding(this.keyDim, this.rotaryBase);
    this.attention = args.attention ?? 'flash';
    if (this.attention !== 'flash' && this.attention !== 'standard') {
      fail(`attention must be 'flash' or 'standard', got '${this.attention}'.`);
    }
    if (args.layout) this.layouts = new AttentionLayouts(args.layout, this.options.causal ?? false);
    this.loraAlpha = args.loraAlpha ?? undefined;
    this.kernelInitializer = optional<Initializer>('kernelInitializer', args) ?? initializers.glorotUniform({});
    this.biasInitializer = optional<Initializer>('biasInitializer', args) ?? initializers.zeros();
    this.kernelRegularizer = optional('kernelRegularizer', args);
    this.biasRegularizer = optional('biasRegularizer', args);
    this.inputNames = checkedInputNames(args.inputNames);
  }

  override build(inputShape: Shape | Shape[]): void {
    const {query, value = query, key = value} = this.named(shapesOf(inputShape));
    const {numHeads, numKvHeads, keyDim, valueDim} = this;
    this.outputs ??= lastAxis('query', query);
    this.projections = {
      query: this.addProjection('query', [lastAxis('query', query)], [numHeads, keyDim]),
      key: this.addProjection('key', [lastAxis('key', key)], [numKvHeads, keyDim]),
      value: this.addProjection('value', [lastAxis('value', value)], [numKvHeads, valueDim]),
      output: this.addProjection('attention_output', [numHeads, valueDim], [this.outputs]),
    };
    this.built = true;
  }

  private addProjection(name: string, inAxes: number[], outAxes: number[]): Projection {
    const rank = this.loraRank;
    const [inputs, outputs] = [inAxes, outAxes].map((axes) => axes.reduce((size, axis) => size * axis));
    const add = (
      what: string,
      shape: number[],
      initializer: Initializer,
      trainable: boolean,
      regularizer?: Regularizer,
    ) => this.addWeight(`${name}/${what}`, shape, 'float32', initializer, regularizer, trainable);
    const trainable = rank === 0;
    const kernel = add('kernel', [...inAxes, ...outAxes], this.kernelInitializer, trainable, this.kernelRegularizer);
    const bias = this.useBias ? add('bias', outAxes, this.biasInitializer, trainable, this.biasRegularizer) : undefined;
    const lowRank =
      rank === 0
        ? undefined
        : {
            a: this.addLoraA(`${name}/lora_a`, [inputs, rank]),
            b: add('lora_b', [rank, outputs], initializers.zeros(), true),
            scale: (this.loraAlpha ?? rank) / rank,
          };
    return new Projection(inputs, outputs, kernel, bias, lowRank);
  }

  /** Not zeros even where a loader has the weights start from zeros: with both factors zero, neither would learn. */
  private addLoraA(name: string, shape: [inputs: number, rank: number]): LayerVariable {
    const limit = 1 / Math.sqrt(shape[0]);
    const initializer = () => initializers.randomUniform({minval: -limit, maxval: limit});
    return this.addWeight(name, shape, 'float32', initializer(), undefined, true, undefined, initializer);
  }

  /** Inputs by what they are. */
  private named<T>(inputs: T[]): NamedInputs<T> {
    const names = this.inputNames ?? POSITIONAL_NAMES.slice(0, inputs.length);
    if (names.length !== inputs.length) {
      fail(`layer ${this.name} takes the inputs ${names.join(', ')}, got ${inputs.length} inputs.`);
    }
    return Object.fromEntries(names.map((name, i) => [name, inputs[i]])) as NamedInputs<T>;
  }

  /**
   * tfjs frees an input too early in `predict` if a node has it twice. Where the repeated ones are what the layer takes
   * for them by default, they are left out.
   */
  override apply(
    inputs: Tensor | Tensor[] | SymbolicTensor | SymbolicTensor[],
    kwargs?: Kwargs,
  ): Tensor | Tensor[] | SymbolicTensor | SymbolicTensor[] {
    if (!Array.isArray(inputs) || this.inputNames) return super.apply(inputs, kwargs);
    const [query, value, key, ...masks] = inputs;
    if (masks.length > 0) return super.apply(inputs, kwargs);
    const distinct = key && key !== value ? [query, value, key] : value && value !== query ? [query, value] : [query];
    return super.apply(distinct as Tensor[], kwargs);
  }

  override call(inputs: Tensor | Tensor[], kwargs: Kwargs): Tensor | Tensor[] {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const callOptions: AttentionCallOptions = kwargs ?? {};
      const named = this.named([inputs].flat() as Tensor[]);
      const {query, value = query, key = value} = named;
      for (const [name, x] of Object.entries({query, value, key})) assertRank3(name, x);
      const projections = this.builtProjections();
      let q = this.heads(projections.query, query, this.numHeads);
      let k = this.heads(projections.key, key, this.numKvHeads);
      const v = this.heads(projections.value, value, this.numKvHeads);
      if (this.rotary) [q, k] = [this.rotary.rotate(q), this.rotary.rotate(k)];
      const masks = [...this.givenMasks(named, callOptions), ...keyMasks(query, value, key, callOptions)];
      return this.projectBack(this.attend(q, k, v, masks, callOptions));
    });
  }

  /** [B, S, in] → [B, S, heads, D]: the heads stand side by side in a row, so that nothing is transposed. */
  private heads(projection: Projection, x: Tensor, heads: number): Tensor4D {
    const [batch, length] = x.shape;
    const rows = projection.apply(floatRows(x));
    return reshape(rows, [batch, length, heads, rows.shape[1] / heads]) as Tensor4D;
  }

  /** [B, S, H, Dv] → [B, S, out]. */
  private projectBack(attended: Tensor4D): Tensor3D {
    const [batch, length, heads, depth] = attended.shape;
    const projections = this.builtProjections();
    const rows = projections.output.apply(reshape(attended, [batch * length, heads * depth]) as Tensor2D);
    return reshape(rows, [batch, length, rows.shape[1]]) as Tensor3D;
  }

  private attend(q: Tensor4D, k: Tensor4D, v: Tensor4D, masks: Tensor[], callOptions: AttentionCallOptions): Tensor4D {
    const lengths: [number, number] = [q.shape[1], k.shape[1]];
    const options: LayerAttentionOptions = {...this.options};
    if (this.layouts) options.layout = this.layouts.forLengths(lengths);
    if (callOptions.training && this.dropout > 0) options.dropout = this.nextDropout();
    if (this.useCausalMask || callOptions.useCausalMask) {
      if (lengths[0] === lengths[1]) options.causal = true;
      else masks.push(topLeftCausalMask(lengths));
    }
    if (masks.length > 0) options.mask = masks.reduce((all, mask) => logicalAnd(all, mask));
    return this.attention === 'flash'
      ? flashAttention<Tensor4D>(q, k, v, {...options, order: 'BSHD'})
      : standardAttention(q, k, v, options);
  }

  private nextDropout(): {rate: number; seed?: number} {
    return this.seed === undefined ? {rate: this.dropout} : {rate: this.dropout, seed: this.seed + this.dropoutsMade++};
  }

  /** Masks that are inputs or keyword arguments, as bool that broadcasts to [B, H, Sq, Sk]. */
  private givenMasks(inputs: NamedInputs<Tensor>, callOptions: AttentionCallOptions): Tensor[] {
    const given = (['attentionMask', 'valueMask', 'keyMask'] as const).flatMap((name) => [
      inputs[name] as Tensor | undefined,
      callOptions[name],
    ]);
    return given.filter((mask) => mask != null).map(toMask);
  }

  /**
   * Attention of further tokens to themselves and all before them, whose keys and values a cache has kept: one by one, or
   * many at once, the results are those of one causal call. Like `flashAttention` with `causal`, whichever `attention` the
   * layer has, without dropout. A pattern is that of a sequence as long as the cache's capacity, a layout must cover it.
   *
   * @param query [B, Sn, in]: the tokens that follow the `cache.length` tokens so far.
   * @param cache gets the keys and values of the tokens.
   * @returns [B, Sn, out].
   * @throws Error if the layer was not built, or the query does not have rank 3.
   */
  callWithCache(query: Tensor3D, cache: AttentionCache): Tensor3D {
    return tidy(() => {
      assertRank3('query', query);
      const projections = this.builtProjections();
      const first = cache.length;
      let q = this.heads(projections.query, query, this.numHeads);
      let k = this.heads(projections.key, query, this.numKvHeads);
      if (this.rotary) [q, k] = [this.rotary.rotate(q, first), this.rotary.rotate(k, first)];
      cache.append(k, this.heads(projections.value, query, this.numKvHeads));
      const capacity = cache.keys.shape[1];
      const layout = this.layouts?.forLengths([capacity, capacity]);
      const attended = flashAttention<Tensor4D>(q, cache.keys, cache.values, {
        ...this.options,
        causal: true,
        keyLengths: cache.keyLengths,
        order: 'BSHD',
        ...(layout && {mask: layoutMask(layout, [query.shape[1], capacity], first)}),
      });
      return this.projectBack(attended);
    });
  }

  /**
   * Adds the low-rank additions to the kernels and frees their factors: the layer gives the same, is one without
   * `loraRank`, and trains all its weights. Compile a model that contains it again. Does nothing without `loraRank`.
   *
   * @throws Error if the layer was not built.
   */
  mergeLora(): void {
    const projections = this.builtProjections();
    if (this.loraRank === 0) return;
    const all = Object.values(projections) as Projection[];
    for (const factor of all.flatMap((projection) => projection.merge())) factor.dispose();
    const rest = all.flatMap(({kernel, bias}) => (bias ? [kernel, bias] : [kernel]));
    for (const weight of rest) weight.trainable = true;
    this.trainableWeights = rest;
    this.nonTrainableWeights = [];
    this.loraRank = 0;
  }

  private builtProjections(): Projections {
    return this.projections ?? fail(`layer ${this.name} must be built before it is used.`);
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape {
    const {query} = this.named(shapesOf(inputShape));
    return [...query.slice(0, -1), this.outputs ?? query[query.length - 1]];
  }

  /** The output's tokens are the query's. */
  override computeMask(_inputs: Tensor | Tensor[], mask?: Tensor | Tensor[]): Tensor {
    return (Array.isArray(mask) ? mask[0] : mask) as Tensor;
  }

  override getConfig(): serialization.ConfigDict {
    const named = (object: serialization.Serializable | undefined) => (object ? toIdentifier(object) : null);
    const {scale = null, causal = false, window = null, softcap = null, precision = null} = this.options;
    return {
      ...super.getConfig(),
      numHeads: this.numHeads,
      keyDim: this.keyDim,
      valueDim: this.valueDim,
      numKvHeads: this.numKvHeads,
      useBias: this.useBias,
      outputShape: this.outputs ?? null,
      causal,
      useCausalMask: this.useCausalMask,
      window,
      softcap,
      scale,
      precision,
      dropout: this.dropout,
      seed: this.seed ?? null,
      rotary: this.rotaryBase === undefined ? false : {base: this.rotaryBase},
      attention: this.attention,
      layout: (this.layouts?.toJSON() ?? null) as serialization.ConfigDict | null,
      loraRank: this.loraRank || null,
      loraAlpha: this.loraAlpha ?? null,
      kernelInitializer: named(this.kernelInitializer),
      biasInitializer: named(this.biasInitializer),
      kernelRegularizer: named(this.kernelRegularizer),
      biasRegularizer: named(this.biasRegularizer),
      inputNames: this.inputNames ?? null,
    };
  }

  /** Frees the weights, the tables of the rotary embedding and the index buffers of layouts, after the last use. */
  override dispose(): ReturnType<layers.Layer['dispose']> {
    const result = super.dispose();
    if (result.refCountAfterDispose === 0) {
      this.rotary?.dispose();
      this.layouts?.dispose();
    }
    return result;
  }
}

/** The same layer under the name that models from Keras call it by. */
export class MultiHeadAttention extends FlashMultiHeadAttention {
  static override className = 'MultiHeadAttention';
}

serialization.registerClass(FlashMultiHeadAttention);
serialization.registerClass(MultiHeadAttention);

function fail(message: string): never {
  throw new Error(`flashMultiHeadAttention: ${message}`);
}

function positiveInteger(argument: string, value: number, most = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isInteger(value) || value < 1 || value > most) {
    const upTo = most === Number.MAX_SAFE_INTEGER ? '' : ` up to ${most}`;
    fail(`${argument} must be a positive integer${upTo}, got ${value}.`);
  }
  return value;
}

function assertSupported(args: object): void {
  const given = args as Record<string, unknown>;
  for (const argument of UNSUPPORTED_ARGUMENTS) {
    if (given[argument] != null) fail(`${argument} is not supported, got ${JSON.stringify(given[argument])}.`);
  }
  const {attentionAxes, outputShape} = given;
  // Keras writes [1], the only axis of a sequence, into configurations of layers that were built.
  if (attentionAxes != null && String(attentionAxes) !== '1') {
    fail(`attentionAxes is not supported other than [1], got ${JSON.stringify(attentionAxes)}.`);
  }
  if (Array.isArray(outputShape) && outputShape.length !== 1) {
    fail(`outputShape must be a number, got [${outputShape}].`);
  }
}

function optional<T extends serialization.Serializable>(
  argument: 'kernelInitializer' | 'biasInitializer' | 'kernelRegularizer' | 'biasRegularizer',
  args: FlashMultiHeadAttentionArgs,
): T | undefined {
  const identifier = args[argument] as Identifier<T> | null | undefined;
  return identifier == null ? undefined : fromIdentifier<T>('flashMultiHeadAttention', argument, identifier);
}

/** The options that pass through to the op, without those that a saved configuration has as null. */
function attentionOptions({scale, causal, window, softcap, precision}: FlashMultiHeadAttentionArgs) {
  if (precision != null) checkPrecision(fail, precision);
  const options = {scale, causal, window, softcap, precision};
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value != null)) as Partial<typeof options>;
}

function rotaryBaseOf({rotary, keyDim}: FlashMultiHeadAttentionArgs): number | undefined {
  if (!rotary) return undefined;
  const base = rotary === true ? DEFAULT_ROTARY_BASE : rotary.base;
  if (keyDim % 2 !== 0) fail(`keyDim must be even for rotary, got ${keyDim}.`);
  if (!(base > 0 && Number.isFinite(base))) fail(`rotary.base must be a positive number, got ${base}.`);
  return base;
}

function checkedInputNames(names: AttentionInputName[] | null | undefined): AttentionInputName[] | undefined {
  if (names == null) return undefined;
  const known = names.every((name, i) => INPUT_NAMES.includes(name) && names.indexOf(name) === i);
  if (!known || names[0] !== 'query') {
    fail(`inputNames must be 'query' and then some of ${INPUT_NAMES.slice(1).join(', ')}, got [${names}].`);
  }
  return names;
}

function shapesOf(shape: Shape | Shape[]): Shape[] {
  return (Array.isArray(shape[0]) ? shape : [shape]) as Shape[];
}

function lastAxis(name: string, shape: Shape): number {
  const size = shape.at(-1);
  if (shape.length !== 3 || typeof size !== 'number') {
    fail(`${name} must have the shape [B, S, in] with its last axis known, got [${shape}].`);
  }
  return size;
}

function assertRank3(name: string, x: Tensor): void {
  if (x.rank !== 3) fail(`${name} must have rank 3, [B, S, in], got [${x.shape}].`);
}

/** Masks of keys [B, Sk] that masking layers made. */
function keyMasks(query: Tensor, value: Tensor, key: Tensor, {mask}: AttentionCallOptions): Tensor[] {
  // A layer that makes masks leaves them on its output; further on, tfjs passes on only that of a layer's first input.
  const fromFirstInput = Array.isArray(mask) ? mask[0] : mask;
  const masks = [value, key].map((x) => x.kerasMask ?? (x === query ? fromFirstInput : undefined));
  return [...new Set(masks)].filter((each) => each != null).map(toMask);
}

/** [B, Sk] as [B, 1, 1, Sk], [B, Sq, Sk] as [B, 1, Sq, Sk], and as bool. */
function toMask(mask: Tensor): Tensor {
  const {shape} = mask;
  if (shape.length < 2 || shape.length > 4) {
    fail(`attentionMask must be [B, Sk], [B, Sq, Sk] or [B, H, Sq, Sk], got [${shape}].`);
  }
  const axes = [shape[0], ...Array<number>(4 - shape.length).fill(1), ...shape.slice(1)];
  return reshapeIfNeeded(mask.dtype === 'bool' ? mask : cast(mask, 'bool'), axes);
}

/** Key j is visible to query i iff j ≤ i, as bool [1, 1, Sq, Sk]. */
function topLeftCausalMask([queries, keys]: [number, number]): Tensor {
  const rows = reshape(range(0, queries, 1, 'int32'), [1, 1, queries, 1]);
  return greaterEqual(rows, range(0, keys, 1, 'int32'));
}

/**
 * Multi-head attention as a layer: queries, keys and values are projected to heads, attended to by `flashAttention`, and
 * projected back. In the place of Keras's MultiHeadAttention, with its weights under its names: query/kernel [in, H, D],
 * query/bias [H, D], key/kernel [in, Hk, D], key/bias, value/kernel [in, Hk, Dv], value/bias, attention_output/kernel
 * [H, Dv, out] and attention_output/bias [out].
 *
 * Inputs are x [B, S, in] for self-attention, or [query, value] or [query, value, key], each [B, S, in]; a fourth is a
 * mask, or `inputNames` says what they are. Keys that the value's mask hides, as an embedding with `maskZero` makes it,
 * are invisible; the query's mask is passed on, and hides nothing.
 *
 * Sources: Vaswani et al., "Attention Is All You Need" (2017); Ainslie et al., "GQA" (2023); Su et al., "RoFormer" (2021);
 * Hu et al., "LoRA" (2021).
 *
 * ```js
 * const layer = tf.layers.flashMultiHeadAttention({numHeads: 4, keyDim: 8, causal: true, inputShape: [16, 32]});
 * const model = tf.sequential({layers: [layer, tf.layers.dense({units: 1})]});
 * console.log(model.predict(tf.randomNormal([2, 16, 32])).shape); // [2, 16, 1]
 * model.dispose();
 * ```
 *
 * @param args see {@link FlashMultiHeadAttentionArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument.
 */
export function flashMultiHeadAttention(args: FlashMultiHeadAttentionArgs): FlashMultiHeadAttention {
  return new FlashMultiHeadAttention(args);
}
