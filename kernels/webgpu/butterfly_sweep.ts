/** Sweeps of products with butterfly matrices on WebGPU: rows are taken through all factors, once or there and back. */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {named, type PartedRows, type Parts} from '../butterfly_parts.js';
import {type ButterflySizes, factorSteps} from '../butterfly_sizes.js';
import {type ButterflyPass, butterflyPasses, butterflyTileBits} from './butterfly_passes.js';
import {disposeParts, makeParts, type Product, type Rows} from './butterfly_product.js';
import {type LegVariant, type SweepVariant, sweepBindings, sweepShader} from './butterfly_wgsl.js';
import {dispatch} from './dispatch.js';

/** So many workgroups keep a GPU busy; only then do workgroups take several rows. */
const ENOUGH_WORKGROUPS = 512;
/** Elements that an invocation takes at a time, for two factors; see butterfly_factors_wgsl.ts. */
const ELEMENTS_PER_THREAD = 4;
/** A workgroup of fewer invocations leaves a core idle; of more, each has too few registers. */
const [LEAST_THREADS, MOST_THREADS] = [128, 512];

/** Rows in memory; each stack writes n columns of its own of them. */
export type Columns = Omit<PartedRows, 'isSplit'>;

/** One way of rows through all factors, or through those of a pass. */
interface LegOf<Source> {
  /** From the last factor to the first, with their transposes. */
  transposed: boolean;
  conjugated: boolean;
  source: Source;
  /** Gets each factor's input: [factors of a stack, rows, stacks, n], or [.., n, 2] of complex numbers. */
  saves?: TensorInfo;
  /** Gets what comes out at the end. */
  target?: Columns;
}

export type Leg = LegOf<Parts>;

type PassLeg = LegOf<PartedRows>;

/** Takes rows through all factors, in as few passes as workgroup memory allows. */
export function sweep(product: Product, rows: Rows, leg: Leg): void {
  const {batch, stacks, n} = product.sizes;
  const passes = passesOf(product, leg);
  let source = sourceOf(leg);
  passes.forEach((pass, i) => {
    const isLast = i === passes.length - 1;
    const between = () => ({tensors: makeParts(product, [batch, stacks * n]), width: stacks * n});
    const target = isLast ? leg.target : between();
    runPass(product, rows, pass, [{...leg, source, target}]);
    if (i > 0) disposeParts(product, source.tensors);
    if (target) source = {...target, isSplit: true};
  });
}

/**
 * Takes rows along one leg, then others back along another: in one dispatch where a workgroup holds whole rows and the
 * device binds as many buffers as that takes, which for complex numbers is more than the default limits allow.
 */
export function sweepThereAndBack(product: Product, rows: Rows, there: Leg, back: Leg): void {
  const passes = passesOf(product, there);
  const legs = [there, back].map((leg) => ({...leg, source: sourceOf(leg)}));
  const {backend, sizes} = product;
  const {maxStorageBuffersPerShaderStage} = backend.device.limits;
  const buffers = sweepBindings(sizes.complex, legVariants(sizes, legs)).length;
  if (passes.length === 1 && buffers <= maxStorageBuffersPerShaderStage) {
    runPass(product, rows, passes[0], legs);
  } else {
    for (const leg of [there, back]) sweep(product, rows, leg);
  }
}

function passesOf({backend, sizes, attrs}: Product, {transposed}: Leg): ButterflyPass[] {
  const tileBits = butterflyTileBits(sizes, backend.device.limits.maxComputeWorkgroupStorageSize);
  return butterflyPasses(factorSteps(sizes, {...attrs, transpose: transposed}), tileBits);
}

/** The stacks of a transposed product begin with columns of their own. */
const sourceOf = ({source, transposed}: Leg): PartedRows => ({
  tensors: source,
  width: source[0].shape[1],
  isSplit: transposed,
});

function legVariants({complex}: ButterflySizes, legs: PassLeg[]): LegVariant[] {
  return legs.map(({transposed, conjugated, source, saves, target}) => ({
    transposed,
    conjugated: conjugated && complex,
    splitSource: source.isSplit,
    saves: saves !== undefined,
    stores: target !== undefined,
  }));
}

function runPass(product: Product, rows: Rows, pass: ButterflyPass, legs: PassLeg[]): void {
  const {backend, sizes, twiddle} = product;
  const {stacks, n, complex} = sizes;
  const rowTileBits = pass.spanBits + pass.laneBits;
  const mostBits = butterflyTileBits(sizes, backend.device.limits.maxComputeWorkgroupStorageSize);
  const rowBits = rowBitsOf(sizes, rows.count, rowTileBits, mostBits);
  const tileBits = rowTileBits + rowBits;
  const variant: SweepVariant = {
    complex,
    threads: threadsOf(backend.device.limits, tileBits),
    tileBits,
    legs: legVariants(sizes, legs),
  };
  const ofLegs = legs.map(({source, saves, target}, i) => ({
    ...named(`source${i}`, source.tensors),
    ...named(`target${i}`, target?.tensors ?? []),
    [`saves${i}`]: saves,
  }));
  dispatch(backend, {
    key: `butterfly sweep ${JSON.stringify(variant)}`,
    makeShader: () => sweepShader(variant),
    tensors: Object.assign(named('twiddle', twiddle), ...ofLegs),
    uniforms: sweepParams(product, rows, pass, rowBits, legs),
    workgroups: (Math.ceil(rows.count / 2 ** rowBits) * stacks * n) / 2 ** rowTileBits,
  });
}

/** log2 of the rows that a workgroup takes: as many as it has room for, as long as there are enough workgroups. */
function rowBitsOf({n, stacks}: ButterflySizes, rows: number, rowTileBits: number, mostBits: number): number {
  const oneRowEach = (rows * stacks * n) / 2 ** rowTileBits;
  const least = Math.max(0, Math.log2(LEAST_THREADS * ELEMENTS_PER_THREAD) - rowTileBits);
  const wanted = Math.max(least, Math.floor(Math.log2(Math.max(1, oneRowEach / ENOUGH_WORKGROUPS))));
  return Math.min(wanted, mostBits - rowTileBits, Math.ceil(Math.log2(rows)));
}

/** Invocations of a workgroup that holds 2^tileBits elements; a power of two. */
function threadsOf(limits: GPUSupportedLimits, tileBits: number): number {
  const {maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX} = limits;
  const wanted = Math.max(LEAST_THREADS, 2 ** tileBits / ELEMENTS_PER_THREAD);
  const most = Math.min(MOST_THREADS, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX);
  return 2 ** Math.floor(Math.log2(Math.min(wanted, most)));
}

/** Fills the struct Params of sweepShader, field by field. */
function sweepParams(
  {attrs, sizes}: Product,
  rows: Rows,
  pass: ButterflyPass,
  rowBits: number,
  legs: PassLeg[],
): ArrayBuffer {
  const {stacks, blocks, factors} = sizes;
  return Uint32Array.of(
    rows.count,
    rows.first,
    stacks,
    factors,
    blocks * factors,
    pass.firstStep,
    pass.endStep,
    Number(attrs.increasingStride),
    pass.lowBit,
    pass.spanBits,
    pass.laneBits,
    rowBits,
    ...legs.flatMap(({source, target}) => [source.width, target?.width ?? 0]),
  ).buffer;
}
