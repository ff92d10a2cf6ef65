/** The layer `transformerBlock`: attention and a feed-forward net, each after a normalization and beside a skip. */
import {
  add,
  dropout,
  mul,
  randomNormal,
  serialization,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  tidy,
} from '@tensorflow/tfjs-core';
import {
  initializers,
  input,
  type LayerVariable,
  layers,
  type Shape,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers';
import {
  copyWeights,
  isWorthwhile,
  type Sparsifiable,
  type SparsifiedLayer,
  type SparsifyOptions,
  takeProjection,
} from '../convert/sparsify.js';
import {KeyValueCache} from '../generation/key_value_cache.js';
import {type GeluOptions, gelu} from '../ops/gelu.js';
import {asRows, reshapeIfNeeded} from '../ops/reshape_if_needed.js';
import {BlockLayout} from '../sparsity/block_layout.js';
import {
  type FlashMultiHeadAttention,
  type FlashMultiHeadAttentionArgs,
  flashMultiHeadAttention,
} from './flash_multi_head_attention.js';
import type {ProjectingLayer} from './from_dense.js';
import {fromIdentifier, toIdentifier} from './from_identifier.js';
import {fusedLayerNorm} from './fused_layer_norm.js';
import {type MonarchDenseArgs, monarchDense} from './monarch_dense.js';
import {type PixelflyDenseArgs, pixelflyDense} from './pixelfly_dense.js';
import {type Projection, projectionOfDense} from './projection.js';

type Layer = layers.Layer;
type LayerArgs = NonNullable<ConstructorParameters<typeof layers.Layer>[0]>;
type Kwargs = Parameters<layers.Layer['call']>[1];
type DenseArgs = Parameters<typeof layers.dense>[0];

/** Options of the two layers of the feed-forward net, of whichever kind they are. */
export type MlpOptions = Partial<
  Omit<DenseArgs & PixelflyDenseArgs & MonarchDenseArgs, 'units' | 'activation' | 'name' | 'inputShape' | 'complex'>
>;

/** Options of {@link transformerBlock}. */
export interface TransformerBlockArgs extends LayerArgs {
  /** H, query heads, of which the width W is a multiple: keys have W / H elements. */
  numHeads: number;
  /** Units between the two layers of the feed-forward net. Default 4·W. */
  mlpUnits?: number;
  /** The two layers of the feed-forward net: `tf.layers.dense` (default), `pixelflyDense` or `monarchDense`. */
  mlp?: 'dense' | 'pixelfly' | 'monarch';
  /** Options of these layers. Default for 'pixelfly': `{density: 0.25}`. */
  mlpOptions?: MlpOptions;
  /** Between the two layers: 'gelu_new' (default, that of GPT-2), 'gelu', or another activation of tf.layers. */
  activation?: string;
  /** See `flashMultiHeadAttention`. Default 'flash'. */
  attention?: 'flash' | 'standard';
  /** The `precision` of `flashMultiHeadAttention`. Default 'highest'. */
  attentionPrecision?: FlashMultiHeadAttentionArgs['precision'];
  /** The `layout` of `flashMultiHeadAttention`: a pattern serves sequences of any length, a layout those it covers. */
  attentionLayout?: FlashMultiHeadAttentionArgs['layout'];
  /** See `flashMultiHeadAttention`. Default `numHeads`. */
  numKvHeads?: number;
  /** See `flashMultiHeadAttention`. Default true. */
  causal?: boolean;
  /** In training, the part that is dropped of the attention probabilities and of both sums' terms, in [0, 1). Default 0. */
  dropout?: number;
  /** See `flashMultiHeadAttention`. Default false. */
  rotary?: FlashMultiHeadAttentionArgs['rotary'];
  /**
   * Fine-tuning by low-rank additions to the projections of attention. As long as the block has them, nothing else in it
   * is trained: neither norms nor the feed-forward net.
   */
  loraRank?: number;
  /** See `flashMultiHeadAttention`. */
  loraAlpha?: number;
  /** Of the norms. Default 1e-5. */
  epsilon?: number;
  /** Whether the projections of attention and the feed-forward net have biases. Default true. */
  useBias?: boolean;
  /** The longest sequence that the block takes; longer ones throw. Default: any. */
  contextLength?: number;
  /** Standard deviation from which dense kernels start. Default 0.02; 'pixelfly' and 'monarch' start as they do. */
  initialDeviation?: number;
  /** Factor on the first kernels of the two layers whose output is added to x. Default 1. */
  residualScale?: number;
  /** Makes first weights and dropout the same every time. */
  seed?: number;
}

interface Sublayers {
  attentionNorm: Layer;
  attention: FlashMultiHeadAttention;
  mlpNorm: Layer;
  mlpIn: Layer;
  mlpOut: Layer;
}

type MlpProjections = Record<'mlpIn' | 'mlpOut', Projection>;

const DEFAULTS = {
  mlp: 'dense',
  activation: 'gelu_new',
  attention: 'flash',
  causal: true,
  dropout: 0,
  rotary: false,
  epsilon: 1e-5,
  useBias: true,
  initialDeviation: 0.02,
  residualScale: 1,
} as const;

/** Weights by which the output of a layer grows in proportion: of its one matrix, or of the last of its factors. */
const LAST_KERNEL = /\/(kernel|sparse_kernel|low_rank_out|w2)$/;

/** The layer that {@link transformerBlock} makes. */
export class TransformerBlock extends layers.Layer implements Sparsifiable {
  static readonly className = 'TransformerBlock';

  private readonly args: TransformerBlockArgs & Required<Pick<TransformerBlockArgs, keyof typeof DEFAULTS>>;
  /** Where gelu is the activation. */
  private readonly gelu: GeluOptions | undefined;
  private readonly activate: (x: Tensor) => Tensor;
  private sublayers: Sublayers | undefined;
  /** What mlpIn and mlpOut do, where they are dense. */
  private projections: MlpProjections | undefined;
  private loraRank: number | undefined;
  private width = 0;
  private startsFromZeros = false;
  private dropoutsMade = 0;

  constructor(args: TransformerBlockArgs) {
    super(args);
    this.args = withDefaults(args);
    for (const name of ['numHeads', 'mlpUnits', 'numKvHeads', 'contextLength', 'loraRank'] as const) {
      const value = this.args[name];
      if ((value !== undefined || name === 'numHeads') && !(Number.isInteger(value) && Number(value) > 0)) {
        fail(`${name} must be an integer from 1 on, got ${value}.`);
      }
    }
    if (!(this.args.dropout >= 0 && this.args.dropout < 1)) {
      fail(`dropout must be at least 0 and below 1, got ${this.args.dropout}.`);
    }
    if (!Object.hasOwn(mlpMakers, this.args.mlp)) {
      fail(`mlp must be one of ${Object.keys(mlpMakers).join(', ')}, got '${this.args.mlp}'.`);
    }
    this.gelu = geluOptions(this.args.activation);
    this.activate = this.gelu ? (x) => gelu(x, this.gelu) : activationOf(this.args.activation);
    this.loraRank = this.args.loraRank;
  }

  override build(inputShape: Shape | Shape[]): void {
    const width = inputShape[inputShape.length - 1];
    if (inputShape.length !== 3 || typeof width !== 'number') {
      fail(`the input must have the shape [B, S, W] with its last axis known, got [${inputShape}].`);
    }
    const {numHeads, mlpUnits = 4 * width} = this.args;
    if (width % numHeads !== 0) fail(`numHeads must divide the input's last axis, got ${numHeads} for ${width}.`);
    this.width = width;
    this.sublayers = {
      attentionNorm: fusedLayerNorm({name: 'attention_norm', epsilon: this.args.epsilon}),
      attention: this.makeAttention(width / numHeads),
      mlpNorm: fusedLayerNorm({name: 'mlp_norm', epsilon: this.args.epsilon}),
      mlpIn: this.makeMlp('mlp_in', mlpUnits, 4),
      mlpOut: this.makeMlp('mlp_out', width, 8),
    };
    // A layer that is applied to a symbolic tensor names its weights by itself, and is in use until it is disposed.
    const {attentionNorm, attention, mlpNorm, mlpIn, mlpOut} = this.sublayers;
    const x = input({batchShape: [null, null, width], name: 'x'});
    for (const layer of this.all()) layer.setFastWeightInitDuringBuild(this.startsFromZeros);
    for (const layer of [attentionNorm, attention, mlpNorm]) layer.apply(x);
    mlpOut.apply(mlpIn.apply(x) as SymbolicTensor);
    if (this.args.mlp === 'dense') {
      this.projections = {mlpIn: projectionOfDense(mlpIn), mlpOut: projectionOfDense(mlpOut)};
    }
    this.scaleResiduals([attention, mlpOut]);
    this.trainable = this.trainable_;
    this.inputSpec = [{ndim: 3, axes: {[-1]: width}}];
    this.built = true;
  }

  private makeAttention(keyDim: number): FlashMultiHeadAttention {
    const {numHeads, numKvHeads, causal, rotary, loraRank, loraAlpha, useBias} = this.args;
    const {attention, attentionPrecision, attentionLayout} = this.args;
    return flashMultiHeadAttention({
      name: 'attention',
      numHeads,
      keyDim,
      numKvHeads,
      causal,
      rotary,
      attention,
      precision: attentionPrecision,
      layout: attentionLayout,
      loraRank,
      loraAlpha,
      useBias,
      dropout: this.args.dropout,
      seed: this.args.seed,
      kernelInitializer: new DistinctNormal(this.args.initialDeviation, this.args.seed),
    });
  }

  /** @param seedShift tells this layer's first weights from those of others: attention has four kernels. */
  private makeMlp(name: string, units: number, seedShift: number): Layer {
    const {mlp, mlpOptions, useBias, initialDeviation, seed} = this.args;
    return mlpMakers[mlp]({
      units,
      useBias,
      name,
      deviation: initialDeviation,
      seed: seed === undefined ? undefined : seed + seedShift,
      options: mlpOptions ?? {},
    });
  }

  private scaleResiduals(residual: Layer[]): void {
    const {residualScale} = this.args;
    if (residualScale === 1 || this.startsFromZeros) return;
    const ofOutput = ({originalName}: LayerVariable) =>
      LAST_KERNEL.test(originalName) && !/\/(query|key|value)\/kernel$/.test(originalName);
    for (const weight of residual.flatMap((layer) => layer.weights).filter(ofOutput)) {
      const scaled = mul(weight.read(), residualScale);
      weight.write(scaled);
      scaled.dispose();
    }
  }

  override call(inputs: Tensor | Tensor[], kwargs: Kwargs): Tensor {
    return tidy(() => {
      this.invokeCallHook(inputs, kwargs);
      const training = Boolean(kwargs?.training);
      const attend = (x: Tensor) => this.whenBuilt().attention.apply(x, {training}) as Tensor;
      return this.addTerms(Array.isArray(inputs) ? inputs[0] : inputs, attend, training);
    });
  }

  /**
   * The block for tokens that follow those in the cache, which gets their keys and values.
   *
   * @param x [B, Sn, W].
   * @param cache such as {@link createCache} makes, for this block alone.
   * @returns [B, Sn, W].
   */
  callWithCache(x: Tensor3D, cache: KeyValueCache): Tensor3D {
    const attend = (y: Tensor) => this.whenBuilt().attention.callWithCache(y as Tensor3D, cache);
    return tidy(() => this.addTerms(x, attend, false, cache.length) as Tensor3D);
  }

  /** A cache for {@link callWithCache}, of so many samples and tokens. */
  createCache(batch: number, capacity: number): KeyValueCache {
    const {numHeads, numKvHeads = numHeads} = this.args;
    this.whenBuilt();
    return new KeyValueCache({batch, capacity, numKvHeads, keyDim: this.width / numHeads});
  }

  /** x + attention(norm(x)), and with that for x, x + mlp(norm(x)). */
  private addTerms(x: Tensor, attend: (x: Tensor) => Tensor, training: boolean, before = 0): Tensor {
    const {contextLength} = this.args;
    const [, length] = x.shape;
    if (contextLength !== undefined && before + length > contextLength) {
      fail(`contextLength is ${contextLength}, got ${before + length} tokens.`);
    }
    const {attentionNorm, mlpNorm} = this.whenBuilt();
    const attended = add(x, this.dropped(attend(attentionNorm.apply(x) as Tensor), training));
    return add(attended, this.dropped(this.mlp(mlpNorm.apply(attended) as Tensor), training));
  }

  private mlp(x: Tensor): Tensor {
    if (this.projections) return reshapeIfNeeded(this.denseMlp(asRows(x) as Tensor2D, this.projections), x.shape);
    const {mlpIn, mlpOut} = this.whenBuilt();
    return mlpOut.apply(this.activate(mlpIn.apply(x) as Tensor)) as Tensor;
  }

  /** gelu adds the bias itself, so that their sum is never written. */
  private denseMlp(x: Tensor2D, {mlpIn, mlpOut}: MlpProjections): Tensor {
    const widened = this.gelu
      ? gelu(mlpIn.applyWithoutBias(x), {...this.gelu, bias: mlpIn.readBias()})
      : this.activate(mlpIn.apply(x));
    return mlpOut.apply(widened as Tensor2D);
  }

  private dropped(x: Tensor, training: boolean): Tensor {
    const {dropout: rate, seed} = this.args;
    if (!training || rate === 0) return x;
    return dropout(x, rate, undefined, seed === undefined ? undefined : seed + this.dropoutsMade++);
  }

  private whenBuilt(): Sublayers {
    return this.sublayers ?? fail(`layer ${this.name} must be built before it is used.`);
  }

  private all(): Layer[] {
    return this.sublayers ? Object.values(this.sublayers) : [];
  }

  /** The longest sequence that the block takes, where it sets a limit. */
  get contextLength(): number | undefined {
    return this.args.contextLength;
  }

  /** Makes LoRA's additions part of the weights of attention. All weights of the block are trained afterwards. */
  mergeLora(): void {
    this.whenBuilt().attention.mergeLora();
    this.loraRank = undefined;
    this.trainable = this.trainable_;
  }

  /** For `sparsify`: the block with structured layers in its feed-forward net, where that is dense. */
  sparsifiedConfig({layers: _, to, ...matrix}: SparsifyOptions): serialization.ConfigDict | undefined {
    const {mlpIn, mlpOut} = this.whenBuilt();
    const options = {to, ...matrix} as SparsifyOptions;
    if (this.args.mlp !== 'dense' || ![mlpIn, mlpOut].every((layer) => isWorthwhile(layer, options))) return undefined;
    return {...this.getConfig(), mlp: to, mlpOptions: configOf({...this.args.mlpOptions, ...matrix})};
  }

  /** For `sparsify`. */
  async takeFrom(original: TransformerBlock): Promise<SparsifiedLayer[]> {
    const [own, theirs] = [this.whenBuilt(), original.whenBuilt()];
    for (const name of ['attentionNorm', 'attention', 'mlpNorm'] as const) copyWeights(theirs[name], own[name]);
    const taken: SparsifiedLayer[] = [];
    for (const name of ['mlpIn', 'mlpOut'] as const) {
      taken.push(await takeProjection(theirs[name], own[name] as ProjectingLayer, theirs[name].name));
    }
    return taken;
  }

  override get trainable(): boolean {
    return this.trainable_;
  }

  override set trainable(trainable: boolean) {
    this.trainable_ = trainable;
    for (const layer of this.all()) {
      layer.trainable = trainable && (this.loraRank === undefined || layer === this.sublayers?.attention);
    }
  }

  override get trainableWeights(): LayerVariable[] {
    return this.all().flatMap((layer) => layer.trainableWeights);
  }

  override get nonTrainableWeights(): LayerVariable[] {
    return this.all().flatMap((layer) => layer.nonTrainableWeights);
  }

  /** In the order in which the block applies its layers, whether they are trained or not. */
  override get weights(): LayerVariable[] {
    return this.all().flatMap((layer) => layer.weights);
  }

  override get losses(): Layer['losses'] {
    return this.all().flatMap((layer) => layer.losses);
  }

  override setFastWeightInitDuringBuild(value: boolean): void {
    super.setFastWeightInitDuringBuild(value);
    this.startsFromZeros = value;
  }

  override computeOutputShape(inputShape: Shape | Shape[]): Shape | Shape[] {
    return inputShape;
  }

  override getConfig(): serialization.ConfigDict {
    const {attentionLayout, mlpOptions, ...args} = this.args;
    const layout = attentionLayout instanceof BlockLayout ? attentionLayout.toJSON() : attentionLayout;
    const own = {...args, attentionLayout: layout ?? null, mlpOptions: mlpOptions ? configOf(mlpOptions) : null};
    return {...super.getConfig(), ...(own as unknown as serialization.ConfigDict), loraRank: this.loraRank ?? null};
  }

  protected override disposeWeights(): number {
    return this.all().reduce((count, layer) => count + layer.dispose().numDisposedVariables, 0);
  }
}

serialization.registerClass(TransformerBlock);

interface MlpLayer {
  units: number;
  useBias: boolean;
  name: string;
  deviation: number;
  seed: number | undefined;
  options: MlpOptions;
}

const mlpMakers = {
  dense: ({deviation, seed, options, ...args}: MlpLayer): Layer =>
    layers.dense({
      ...args,
      kernelInitializer: initializers.randomNormal({mean: 0, stddev: deviation, ...(seed !== undefined && {seed})}),
      ...options,
    }),
  pixelfly: ({deviation: _, options, ...args}: MlpLayer): Layer =>
    pixelflyDense({...args, ...(Object.keys(options).length === 0 ? {density: 0.25} : options)}),
  monarch: ({deviation: _, options, ...args}: MlpLayer): Layer => monarchDense({...args, ...(options as object)}),
};

/** A normal initializer that gives other values at every use, also with a seed, for a layer with kernels of one shape. */
class DistinctNormal extends serialization.Serializable {
  static readonly className = 'DistinctNormal';
  private uses = 0;

  constructor(
    private readonly deviation: number,
    private readonly seed: number | undefined,
  ) {
    super();
  }

  apply(shape: Shape): Tensor {
    const seed = this.seed === undefined ? undefined : this.seed + this.uses++;
    return randomNormal(shape as number[], 0, this.deviation, 'float32', seed);
  }

  fromConfigUsesCustomObjects(): boolean {
    return false;
  }

  /** The block makes this anew, so that nothing of it is saved. */
  getConfig(): serialization.ConfigDict {
    return {};
  }
}

function fail(message: string): never {
  throw new Error(`transformerBlock: ${message}`);
}

/** A configuration that was saved has null where nothing was given; what belongs to every layer is left out. */
function withDefaults(args: TransformerBlockArgs): TransformerBlock['args'] {
  const {name, trainable, dtype, inputShape, batchInputShape, batchSize, weights, inputDType, ...own} = args;
  const given = Object.entries(own).filter(([, value]) => value != null);
  return {...DEFAULTS, ...Object.fromEntries(given)} as TransformerBlock['args'];
}

/** Of tfjs-layers' activations, those whose gradients take several times as many kernels there as our op. */
function geluOptions(activation: string): GeluOptions | undefined {
  const plain = activation.replaceAll('_', '').toLowerCase();
  return plain === 'gelu' || plain === 'gelunew' ? {approximate: plain === 'gelunew'} : undefined;
}

function activationOf(name: string): (x: Tensor) => Tensor {
  interface Activation extends serialization.Serializable {
    apply(x: Tensor): Tensor;
  }
  const activation = fromIdentifier<Activation>('transformerBlock', 'activation', name);
  return (x) => activation.apply(x);
}

function configOf(options: MlpOptions): serialization.ConfigDict {
  const entries = Object.entries(options).map(([name, value]) => [
    name,
    value instanceof serialization.Serializable ? toIdentifier(value) : value,
  ]);
  return Object.fromEntries(entries);
}

/**
 * A block of a transformer as in GPT-2: y = x + attention(norm(x)), then y + mlp(norm(y)), where mlp is two layers with an
 * activation between them. Input and output are [B, S, W]. Attention is `flashMultiHeadAttention`, causal unless told
 * otherwise; the two layers may be structured: `mlp: 'pixelfly'` or 'monarch'.
 *
 * Its weights are those of its layers: attention_norm/gamma, attention_norm/beta, attention/query/kernel and so on (see
 * `flashMultiHeadAttention`), mlp_norm/gamma, mlp_norm/beta, and of mlp_in and mlp_out kernel and bias, or what the
 * structured layers have.
 *
 * With `loraRank` only LoRA's factors are trained. `layer.mergeLora()` ends that.
 *
 * Sources: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019); Hu et al., "LoRA" (2021, arXiv
 * 2106.09685).
 *
 * ```js
 * const block = tf.layers.transformerBlock({numHeads: 2, inputShape: [10, 16]});
 * const model = tf.sequential({layers: [block]});
 * console.log(model.predict(tf.zeros([3, 10, 16])).shape, model.countParams()); // [3, 10, 16] [3280]
 * model.dispose();
 * ```
 *
 * @param args see {@link TransformerBlockArgs}.
 * @returns the layer, for `tf.sequential`, `tf.model` and saved models; its class is registered for loading.
 * @throws Error that names the argument: here, or, where it depends on the input's last axis, when the layer is built.
 */
export function transformerBlock(args: TransformerBlockArgs): TransformerBlock {
  return new TransformerBlock(args);
}
