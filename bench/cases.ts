/** What the benchmark measures: one `BenchCase` per page, and the suites that list them. */
import type {TiledKernel, TileSizes} from '../kernels/webgpu/tile_sizes.js';

/** Whose attention is measured: `flashAttention`, or the formula written with tfjs's own ops. */
export type Contender = 'flash' | 'unfused';
export type BackendName = 'webgpu' | 'webgl';
export type Pass = 'forward' | 'forward+backward';

/** One attention problem: self-attention over q, k and v of shape [batch, heads, sequence, depth]. */
export interface Problem {
  backend: BackendName;
  pass: Pass;
  causal: boolean;
  /** B */
  batch: number;
  /** H */
  heads: number;
  /** S */
  sequence: number;
  /** D */
  depth: number;
  /** False where one call takes so long that only its memory and its answer are looked at. */
  timed: boolean;
}

export interface BenchCase extends Problem {
  contender: Contender;
  /** Use tfjs's own WebGPU device, with no optional feature, rather than the one of `registerFlashBackend`. */
  stockDevice: boolean;
  /** Tiles to take instead of those that tile_sizes.ts would choose, in a sweep. */
  tiles?: Partial<Record<TiledKernel, TileSizes>>;
}

/** A set of problems with the time that one of them may take. */
export interface Suite {
  problems: Problem[];
  limitSeconds: number;
}

export interface Filter {
  backends: readonly BackendName[];
  /** Sequence lengths to keep; they also name lengths that the suite leaves out by default. */
  sizes?: readonly number[];
  depths: readonly number[];
  passes: readonly Pass[];
  causal: readonly boolean[];
  /** Keep only problems whose name contains this. */
  only?: string;
}

export const contenders: readonly Contender[] = ['flash', 'unfused'];
export const backendNames: readonly BackendName[] = ['webgpu', 'webgl'];
export const passes: readonly Pass[] = ['forward', 'forward+backward'];
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

export function suite(name: SuiteName, filter: Filter): Suite {
  const {timed, memory, limitSeconds} = name === 'software' ? softwareSuite(filter) : gpuSuite(filter);
  return {problems: [...timed, ...memory].filter((problem) => matches(problem, filter)), limitSeconds};
}

function softwareSuite(filter: Filter) {
  const timed = combine(filter, (backend, pass, causal, depth) =>
    (filter.sizes ?? [512, 1024]).map((sequence) => {
      return {backend, pass, causal, batch: 1, heads: 4, sequence, depth, timed: true};
    }),
  );
  // The longest sequence forward only: the software GPU would need many minutes for its gradient.
  const memory = memoryProblems({4096: passes, 16384: ['forward']});
  return {timed, memory, limitSeconds: 300};
}

function gpuSuite(filter: Filter) {
  const timed = combine(filter, (backend, pass, causal, depth) =>
    (filter.sizes ?? gpuSizes[backend]).map((sequence) => {
      const batch = Math.max(1, rowsOnGpu / sequence);
      return {backend, pass, causal, batch, heads: modelWidthOnGpu / depth, sequence, depth, timed: true};
    }),
  );
  return {timed, memory: memoryProblems({4096: passes, 16384: passes}), limitSeconds: 60};
}

/** Small enough in batch and heads that the unfused score matrix of the shorter one exists at all. */
function memoryProblems(passesBySize: Record<number, readonly Pass[]>): Problem[] {
  const problems: Problem[] = [];
  for (const backend of backendNames) {
    for (const [sequence, ofSize] of Object.entries(passesBySize)) {
      for (const pass of ofSize) {
        const shape = {batch: 1, heads: 4, sequence: Number(sequence), depth: 64};
        problems.push({backend, pass, causal: false, ...shape, timed: false});
      }
    }
  }
  return problems;
}

function combine(
  filter: Filter,
  problemsOf: (backend: BackendName, pass: Pass, causal: boolean, depth: number) => Problem[],
): Problem[] {
  const {backends, passes, causal, depths} = filter;
  return backends.flatMap((backend) =>
    passes.flatMap((pass) =>
      depths.flatMap((depth) => causal.flatMap((masked) => problemsOf(backend, pass, masked, depth))),
    ),
  );
}

function matches(problem: Problem, filter: Filter): boolean {
  return (
    filter.backends.includes(problem.backend) &&
    filter.passes.includes(problem.pass) &&
    filter.causal.includes(problem.causal) &&
    filter.depths.includes(problem.depth) &&
    (filter.sizes?.includes(problem.sequence) ?? true) &&
    (filter.only === undefined || problemName(problem).includes(filter.only))
  );
}

/** For example `webgpu forward causal B1 H4 S512 D64`. */
export function problemName(problem: Problem): string {
  const {backend, pass, causal, batch, heads, sequence, depth, timed} = problem;
  const words = [backend, pass, causal ? 'causal' : 'full', `B${batch} H${heads} S${sequence} D${depth}`];
  return (timed ? words : [...words, 'memory']).join(' ');
}

/**
 * Floating-point operations as they are usually counted: two matrix products forward, half of them when causal, and
 * five in the backward pass, which is 2.5 times as many.
 */
export function flopCount({batch, heads, sequence, depth, causal, pass}: Problem): number {
  const forward = (4 * batch * heads * sequence * sequence * depth) / (causal ? 2 : 1);
  return pass === 'forward' ? forward : 3.5 * forward;
}
