/** What the benchmark measures: one `BenchCase` per page, and the suites that list them. */
import type {AttentionPrecision} from '../src/kernel_names.js';
import type {TileTrial} from './tune/tile_trial.js';

/**
 * What is measured: `flashAttention`, or attention written with tfjs's own ops, which a model calls `standard`; and what a
 * layout of live blocks makes `sparse`, or a `structured` matrix, or its `dense` counterpart: `flashAttention` without a
 * layout, tfjs's matMul, or tf.layers.dense. And the attention of other libraries.
 */
export type Contender = 'flash' | 'unfused' | 'standard' | 'sparse' | 'structured' | 'dense' | PeerName;
/** Other libraries: onnxruntime-web and jax-js. */
export const peerNames = ['onnxruntime', 'jax'] as const;
export type PeerName = (typeof peerNames)[number];
export type BackendName = 'webgpu' | 'webgl';
export type Pass = 'forward' | 'forward+backward';

interface AnyProblem {
  backend: BackendName;
  pass: Pass;
  /** False where one call takes so long that only its memory and its answer are looked at. */
  timed: boolean;
}

/** Attention over k and v of shape [batch, heads, sequence, depth], by as many queries or by the last few. */
export interface AttentionProblem extends AnyProblem {
  kind: 'attention';
  causal: boolean;
  /** B */
  batch: number;
  /** H */
  heads: number;
  /** S */
  sequence: number;
  /** D */
  depth: number;
  /** The block size of a butterfly layout, where there is one. */
  layoutBlock?: number;
  /** Sq, where it is not S: one query is what generation asks for each token ('decode'). */
  queries?: number;
  /** Of `flashAttention`; 'highest' where it is left out. */
  precision?: AttentionPrecision;
}

/**
 * The product of activations [size, size] with a weight [size, size] that is a flat block butterfly: `blockSparseMatMul`
 * by itself, or in the layer `pixelflyDense`, whose low-rank term and bias come on top.
 */
export interface MatrixProblem extends AnyProblem {
  kind: 'product' | 'layer';
  size: number;
  blockSize: number;
  /** Of the butterfly. */
  density: number;
}

/**
 * The product of activations [batch, size] with a butterfly, with a Monarch matrix of {@link MONARCH_BLOCKS} blocks, or with
 * a dense matrix by the kernel that layers use.
 */
export interface StructuredProblem extends AnyProblem {
  kind: 'butterfly' | 'monarch' | 'dense product';
  size: number;
  batch: number;
}

export const MONARCH_BLOCKS = 4;

const GPT_HEAD_DEPTH = 64;

/** Training a small causal transformer whose projections are pixelflyDense or tf.layers.dense. */
export interface TrainingProblem extends AnyProblem {
  kind: 'training';
  /** Of the activations; feed-forward nets are four times as wide. */
  width: number;
  batch: number;
  sequence: number;
  steps: number;
  blockSize: number;
}

/**
 * One step of training a `gpt`: with flash against standard attention and a dense feed-forward net, or as 'gpt mlp' with a
 * structured against a dense feed-forward net.
 */
export interface GptProblem extends AnyProblem {
  kind: 'gpt' | 'gpt mlp';
  mlp: 'dense' | 'pixelfly' | 'monarch';
  /** Of the live blocks of 'pixelfly'. */
  blockSize: number;
  layers: number;
  heads: number;
  width: number;
  batch: number;
  /** S, the tokens of a sequence; the model is made for just as many. */
  context: number;
}

export type Problem = AttentionProblem | MatrixProblem | StructuredProblem | TrainingProblem | GptProblem;

export type BenchCase = Problem & {
  contender: Contender;
  /** Use tfjs's own WebGPU device, with no optional feature, rather than the one of `registerFlashBackend`. */
  stockDevice: boolean;
  /** Whether to tell where the time on the GPU goes. */
  profile?: boolean;
  /** Sizes of a kernel to take instead of the package's, in a sweep. */
  trial?: TileTrial;
};

/** A set of problems with the time that one of them may take. */
export interface Suite {
  problems: Problem[];
  limitSeconds: number;
}

export interface Filter {
  kinds: readonly Kind[];
  backends: readonly BackendName[];
  /** Sequence lengths, or sizes of matrices, or widths, to keep; they also name those that the suite leaves out by default. */
  sizes?: readonly number[];
  depths: readonly number[];
  passes: readonly Pass[];
  causal: readonly boolean[];
  /** Of kind 'attention', all of which are measured with it. */
  precision: AttentionPrecision;
  /** Keep only problems whose name contains this. */
  only?: string;
  /** Of the models of kind 'gpt'. */
  gptWidth?: number;
  /** Rows of a batch: of kind 'gpt', where a single sequence has no more, and of the structured products. */
  tokens?: number;
}

/** What a table is about. */
export const kinds = [
  'attention',
  'decode',
  'sparse attention',
  'product',
  'layer',
  'butterfly',
  'monarch',
  'dense product',
  'training',
  'gpt',
  'gpt mlp',
] as const;
export type Kind = (typeof kinds)[number];

export function kindOf(problem: Problem): Kind {
  if (isDecode(problem)) return 'decode';
  return problem.kind === 'attention' && problem.layoutBlock ? 'sparse attention' : problem.kind;
}

/** Ours, and what it is compared with. */
export function contendersOf(problem: Problem): [Contender, Contender] {
  if (problem.kind === 'gpt') return ['flash', 'standard'];
  if (isStructured(problem) || problem.kind === 'gpt mlp') return ['structured', 'dense'];
  return ['attention', 'decode'].includes(kindOf(problem)) ? ['flash', 'unfused'] : ['sparse', 'dense'];
}

/** Those that can do it too: on WebGPU, and onnxruntime-web without a gradient. */
export function peersOf(problem: Problem): PeerName[] {
  if (kindOf(problem) !== 'attention' || problem.backend !== 'webgpu') return [];
  return peerNames.filter((name) => name !== 'onnxruntime' || problem.pass === 'forward');
}

export function isGpt(problem: Problem): problem is GptProblem {
  return problem.kind === 'gpt' || problem.kind === 'gpt mlp';
}

export function isDecode(problem: Problem): problem is AttentionProblem & {queries: number} {
  return problem.kind === 'attention' && problem.queries !== undefined;
}

export function isStructured(problem: Problem): problem is StructuredProblem {
  return problem.kind === 'butterfly' || problem.kind === 'monarch' || problem.kind === 'dense product';
}

export const backendNames: readonly BackendName[] = ['webgpu', 'webgl'];
export const passes: readonly Pass[] = ['forward', 'forward+backward'];
export const precisions: readonly AttentionPrecision[] = ['highest', 'fast'];
export const depths: readonly number[] = [64, 128];
export const suiteNames = ['software', 'gpu'] as const;
export type SuiteName = (typeof suiteNames)[number];

/** Queries in all batches together on a GPU: the usual grid keeps the work per row of the table comparable. */
const rowsOnGpu = 16384;
/** H·D on a GPU. */
const modelWidthOnGpu = 2048;
const gpuSizes: Record<BackendName, readonly number[]> = {
  webgpu: [512, 1024, 2048, 4096, 8192, 16384],
  // Fragment shaders get a small part of a data-centre chip, so that longer ones take minutes there.
  webgl: [512, 1024],
};
const gptContextsOnGpu: Record<BackendName, readonly number[]> = {
  webgpu: [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536],
  webgl: [256, 512, 1024],
};
const decodeSizes: readonly number[] = [1024, 4096, 16384];
/** Tokens in a batch on a GPU, where a single sequence has no more. */
const gptTokensOnGpu = 8192;

export function suite(name: SuiteName, filter: Filter): Suite {
  const {problems, limitSeconds} = name === 'software' ? softwareSuite(filter) : gpuSuite(filter);
  const withPrecision = problems.map((problem) => inPrecision(problem, filter.precision));
  return {problems: withPrecision.filter((problem) => matches(problem, filter)), limitSeconds};
}

function inPrecision(problem: Problem, precision: AttentionPrecision): Problem {
  return precision !== 'highest' && kindOf(problem) === 'attention' ? ({...problem, precision} as Problem) : problem;
}

function softwareSuite(filter: Filter) {
  const timed = combine(filter, (backend, pass, causal, depth) =>
    (filter.sizes ?? [512, 1024]).map((sequence) => {
      return {kind: 'attention', backend, pass, causal, batch: 1, heads: 4, sequence, depth, timed: true};
    }),
  );
  // The longest sequence forward only: the software GPU would need many minutes for its gradient.
  const memory = memoryProblems({4096: passes, 16384: ['forward']});
  const others = [
    ...decodeProblems(filter, 4),
    ...sparseAttention(filter, filter.sizes ?? [2048], {batch: 1, heads: 4, depth: 64}),
    ...matrixProblems(filter, filter.sizes ?? [1024, 2048], [32, 64], [1 / 8, 1 / 4]),
    ...structuredProblems(filter, filter.sizes ?? [512, 1024], 512),
    ...trainingProblems(filter, filter.sizes ?? [256], {batch: 2, sequence: 64, steps: 100, blockSize: 32}),
    ...gptProblems(filter, () => filter.sizes ?? [256, 512], {layers: 1, width: 128, tokens: 1, blockSize: 32}),
    ...gptMlpProblems(filter, filter.sizes ?? [256], {layers: 1, batch: 1, context: 64, blockSize: 32}),
  ];
  return {problems: [...timed, ...memory, ...others], limitSeconds: 300};
}

function gpuSuite(filter: Filter) {
  const timed = combine(filter, (backend, pass, causal, depth) =>
    (filter.sizes ?? gpuSizes[backend]).map((sequence) => {
      const batch = Math.max(1, rowsOnGpu / sequence);
      const heads = modelWidthOnGpu / depth;
      return {kind: 'attention', backend, pass, causal, batch, heads, sequence, depth, timed: true};
    }),
  );
  const memory = memoryProblems({4096: passes, 16384: passes});
  const others = [
    ...decodeProblems(filter, 32),
    ...sparseAttention(filter, filter.sizes ?? [4096, 16384], {batch: 1, heads: 32, depth: 64}),
    ...matrixProblems(filter, filter.sizes ?? [512, 1024, 2048, 4096, 8192], [32, 64], [1 / 16, 1 / 8, 1 / 4, 1 / 2]),
    ...structuredProblems(filter, filter.sizes ?? [512, 1024, 2048, 4096, 8192], gptTokensOnGpu),
    ...trainingProblems(filter, filter.sizes ?? [512, 1024, 2048], {
      batch: 32,
      sequence: 256,
      steps: 1200,
      blockSize: 64,
    }),
    ...gptProblems(filter, (backend) => filter.sizes ?? gptContextsOnGpu[backend], {
      layers: 4,
      width: filter.gptWidth ?? 1024,
      tokens: filter.tokens ?? gptTokensOnGpu,
      blockSize: 64,
    }),
    ...gptMlpProblems(filter, filter.sizes ?? [512, 1024, 2048], {layers: 4, batch: 8, context: 1024, blockSize: 64}),
  ];
  return {problems: [...timed, ...memory, ...others], limitSeconds: 60};
}

/** One query against many keys: a token's attention in generation. */
function decodeProblems({backends, depths, sizes = decodeSizes}: Filter, heads: number): AttentionProblem[] {
  return backends.flatMap((backend) =>
    depths.flatMap((depth) =>
      sizes.map((sequence): AttentionProblem => {
        const shape = {batch: 1, heads, sequence, depth, queries: 1};
        return {kind: 'attention', backend, pass: 'forward', causal: false, ...shape, timed: true};
      }),
    ),
  );
}

/** Causal attention with a butterfly layout, against the same without one. */
function sparseAttention(
  {backends, passes}: Filter,
  sequences: readonly number[],
  shape: {batch: number; heads: number; depth: number},
): AttentionProblem[] {
  return backends.flatMap((backend) =>
    passes.flatMap((pass) =>
      sequences.map((sequence): AttentionProblem => {
        return {kind: 'attention', backend, pass, causal: true, ...shape, sequence, layoutBlock: 64, timed: true};
      }),
    ),
  );
}

function matrixProblems(
  {backends, passes}: Filter,
  sizes: readonly number[],
  blockSizes: readonly number[],
  densities: readonly number[],
): MatrixProblem[] {
  return (['product', 'layer'] as const).flatMap((kind) =>
    backends.flatMap((backend) =>
      passes.flatMap((pass) =>
        sizes.flatMap((size) =>
          blockSizes.flatMap((blockSize) =>
            densities
              .map((density): MatrixProblem => ({kind, backend, pass, size, blockSize, density, timed: true}))
              .filter((problem) => butterflyOf(problem) !== undefined),
          ),
        ),
      ),
    ),
  );
}

/** @param rows of the activations of dense products where the filter does not say; the others have 256 */
function structuredProblems(
  {backends, passes, tokens}: Filter,
  sizes: readonly number[],
  rows: number,
): StructuredProblem[] {
  const batches = {butterfly: tokens ?? 256, monarch: tokens ?? 256, 'dense product': tokens ?? rows};
  return (['butterfly', 'monarch', 'dense product'] as const).flatMap((kind) =>
    backends.flatMap((backend) =>
      passes.flatMap((pass) =>
        sizes.map((size): StructuredProblem => ({kind, backend, pass, size, batch: batches[kind], timed: true})),
      ),
    ),
  );
}

function trainingProblems(
  {backends}: Filter,
  widths: readonly number[],
  shape: {batch: number; sequence: number; steps: number; blockSize: number},
): TrainingProblem[] {
  return backends.flatMap((backend) =>
    widths.map((width): TrainingProblem => {
      return {kind: 'training', backend, pass: 'forward+backward', width, ...shape, timed: true};
    }),
  );
}

/** @param shape of the model, and how many tokens a batch has at least */
function gptProblems(
  {backends}: Filter,
  contextsOf: (backend: BackendName) => readonly number[],
  {tokens, ...shape}: {layers: number; width: number; tokens: number; blockSize: number},
): GptProblem[] {
  const heads = shape.width / GPT_HEAD_DEPTH;
  return backends.flatMap((backend) =>
    contextsOf(backend).map((context): GptProblem => {
      const batch = Math.max(1, Math.floor(tokens / context));
      const common = {backend, pass: 'forward+backward', heads, ...shape, timed: true} as const;
      return {kind: 'gpt', mlp: 'dense', ...common, batch, context};
    }),
  );
}

function gptMlpProblems(
  {backends}: Filter,
  widths: readonly number[],
  shape: {layers: number; batch: number; context: number; blockSize: number},
): GptProblem[] {
  return backends.flatMap((backend) =>
    widths.flatMap((width) =>
      (['pixelfly', 'monarch'] as const).map((mlp): GptProblem => {
        const heads = width / GPT_HEAD_DEPTH;
        return {kind: 'gpt mlp', mlp, backend, pass: 'forward+backward', width, heads, ...shape, timed: true};
      }),
    ),
  );
}

/** The butterfly of this density whose bands are as narrow as blocks allow; undefined where there is none. */
export function butterflyOf({
  size,
  blockSize,
  density,
}: MatrixProblem): {butterflySize: number; factors: number} | undefined {
  for (let butterflySize = size / blockSize; butterflySize >= 1; butterflySize /= 2) {
    const factors = density * butterflySize - 1;
    if (Number.isInteger(factors) && factors >= 0 && 2 ** factors <= butterflySize) return {butterflySize, factors};
  }
  return undefined;
}

/** The rank of the layer's low-rank term: with it, that has a quarter of the layer's parameters. */
export function rankOf({size, density}: MatrixProblem): number {
  return Math.max(8, Math.round((size * density) / 6 / 8) * 8);
}

/** Small enough in batch and heads that the unfused score matrix of the shorter one exists at all. */
function memoryProblems(passesBySize: Record<number, readonly Pass[]>): AttentionProblem[] {
  const problems: AttentionProblem[] = [];
  for (const backend of backendNames) {
    for (const [sequence, ofSize] of Object.entries(passesBySize)) {
      for (const pass of ofSize) {
        const shape = {batch: 1, heads: 4, sequence: Number(sequence), depth: 64};
        problems.push({kind: 'attention', backend, pass, causal: false, ...shape, timed: false});
      }
    }
  }
  return problems;
}

function combine(
  filter: Filter,
  problemsOf: (backend: BackendName, pass: Pass, causal: boolean, depth: number) => AttentionProblem[],
): AttentionProblem[] {
  const {backends, passes, causal, depths} = filter;
  return backends.flatMap((backend) =>
    passes.flatMap((pass) =>
      depths.flatMap((depth) => causal.flatMap((masked) => problemsOf(backend, pass, masked, depth))),
    ),
  );
}

/** What the option --sizes is about. */
function sizeOf(problem: Problem): number {
  if (isGpt(problem)) return problem.kind === 'gpt' ? problem.context : problem.width;
  if (problem.kind === 'training') return problem.width;
  return problem.kind === 'attention' ? problem.sequence : problem.size;
}

function matches(problem: Problem, filter: Filter): boolean {
  return (
    filter.kinds.includes(kindOf(problem)) &&
    filter.backends.includes(problem.backend) &&
    filter.passes.includes(problem.pass) &&
    (filter.sizes?.includes(sizeOf(problem)) ?? true) &&
    (problem.kind !== 'attention' ||
      (filter.causal.includes(problem.causal) && filter.depths.includes(problem.depth))) &&
    (filter.only === undefined || problemName(problem).includes(filter.only))
  );
}

/** For example `webgpu forward causal B1 H4 S512 D64`, or `webgpu product forward n1024 b32 density 0.25`. */
export function problemName(problem: Problem): string {
  const {backend, pass, timed} = problem;
  if (problem.kind === 'training') return `${backend} training width ${problem.width}, ${problem.steps} steps`;
  if (isGpt(problem)) {
    const {kind, mlp, layers, width, batch, context} = problem;
    const words = [backend, kind, `L${layers} W${width} B${batch} S${context}`];
    return (kind === 'gpt mlp' ? [...words, mlp] : words).join(' ');
  }
  if (isStructured(problem)) return `${backend} ${problem.kind} ${pass} n${problem.size} batch ${problem.batch}`;
  if (problem.kind !== 'attention') {
    return `${backend} ${problem.kind} ${pass} n${problem.size} b${problem.blockSize} density ${problem.density}`;
  }
  const {causal, batch, heads, sequence, depth, layoutBlock, queries, precision} = problem;
  const shape = `B${batch} H${heads} S${sequence} D${depth}`;
  if (queries !== undefined) return `${backend} decode ${shape}`;
  const words = [backend, pass, causal ? 'causal' : 'full', shape];
  if (layoutBlock) words.push(`butterfly b${layoutBlock}`);
  if (precision) words.push(precision);
  return (timed ? words : [...words, 'memory']).join(' ');
}

/** The same for all problems on which a contender does the same: the dense one does not care about what it is compared with. */
export function caseName({contender, ...problem}: BenchCase): string {
  if (contender === 'dense' && problem.kind === 'gpt mlp') return `dense ${problemName({...problem, mlp: 'dense'})}`;
  const isDenseMatrix = contender === 'dense' && (problem.kind === 'product' || problem.kind === 'layer');
  if (contender === 'dense' && isStructured(problem)) return `dense ${problemName({...problem, kind: 'monarch'})}`;
  return `${contender} ${isDenseMatrix ? problemName({...problem, blockSize: 0, density: 1}) : problemName(problem)}`;
}

/**
 * Floating-point operations as they are usually counted. Attention: two matrix products forward, half of them when
 * causal, and five in the backward pass, which is 2.5 times as many. Matrices: one product forward, two backward, on live
 * blocks only for the sparse contender, and with the parameters of the structured one.
 */
export function flopCount(problem: Exclude<Problem, TrainingProblem | GptProblem>, contender: Contender): number {
  const forward = problem.pass === 'forward';
  if (isStructured(problem)) {
    const {size, batch, kind} = problem;
    const dense = size ** 2;
    const parameters = {
      butterfly: 2 * size * Math.log2(size),
      monarch: (2 * dense) / MONARCH_BLOCKS,
      'dense product': dense,
    };
    return (forward ? 2 : 6) * batch * (contender === 'dense' ? dense : parameters[kind]);
  }
  if (problem.kind !== 'attention') {
    const lowRank = problem.kind === 'layer' ? (2 * rankOf(problem)) / problem.size : 0;
    return (forward ? 2 : 6) * problem.size ** 3 * (contender === 'sparse' ? problem.density + lowRank : 1);
  }
  const {batch, heads, sequence, depth, causal, queries = sequence} = problem;
  return ((forward ? 4 : 14) * batch * heads * queries * sequence * depth) / (causal ? 2 : 1);
}

/** What attention must read at least where queries are few: k and v, float32. */
export function keyValueBytes({batch, heads, sequence, depth}: AttentionProblem): number {
  return 2 * 4 * batch * heads * sequence * depth;
}
