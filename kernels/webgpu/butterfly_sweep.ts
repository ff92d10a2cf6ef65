/** Sweeps of products with butterfly matrices on WebGPU: rows are taken through all factors, once or there and back. */
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {named, type PartedRows, type Parts} from '../butterfly_parts.js';
import {type ButterflySizes, factorSteps} from '../butterfly_sizes.js';
import {type ButterflyPass, butterflyPasses} from './butterfly_passes.js';
import {disposeParts, makeParts, type Product, type Rows} from './butterfly_product.js';
import {butterflyTile, butterflyTileBits, butterflyWorkgroups} from './butterfly_tiles.js';
import {type LegVariant, type SweepVariant, sweepBuffers, sweepShader} from './butterfly_wgsl.js';
import {dispatch} from './dispatch.js';

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
  const buffers = sweepBuffers(sizes.complex, legVariants(sizes, legs));
  if (passes.length === 1 && buffers <= maxStorageBuffersPerShaderStage) {
    runPass(product, rows, passes[0], legs);
  } else {
    for (const leg of [there, back]) sweep(product, rows, leg);
  }
}

function passesOf({backend, sizes, attrs}: Product, {transposed}: Leg): ButterflyPass[] {
  const tileBits = butterflyTileBits(sizes, backend.device.limits);
  return butterflyPasses(factorSteps(sizes, {...attrs, transpose: transposed}), tileBits);
}

/** The stacks of a transposed product begin with columns of their own. */
const sourceOf = ({source, transposed}: Leg): PartedRows => ({
  tensors: source,
  width: source[0].shape[1],
  isSplit: transposed,
});

function runPass(product: Product, rows: Rows, pass: ButterflyPass, legs: PassLeg[]): void {
  const {backend, attrs, sizes, twiddle} = product;
  const variants = legVariants(sizes, legs);
  const isSaving = variants.some(({saves}) => saves);
  const tile = butterflyTile(sizes, rows.count, pass, isSaving, backend.device.limits);
  const variant: SweepVariant = {
    complex: sizes.complex,
    blocks: sizes.blocks,
    factors: sizes.factors,
    increasingStride: attrs.increasingStride,
    pass,
    tile,
    legs: variants,
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
    uniforms: sweepParams(product, rows, legs),
    workgroups: butterflyWorkgroups(sizes, rows.count, pass, tile),
  });
}

function legVariants({stacks, n, complex}: ButterflySizes, legs: PassLeg[]): LegVariant[] {
  return legs.map(({transposed, conjugated, source, saves, target}) => ({
    transposed,
    conjugated: conjugated && complex,
    splitSource: source.isSplit,
    narrowSource: source.width < (source.isSplit ? stacks * n : n),
    narrowTarget: target !== undefined && target.width < stacks * n,
    sourceQuads: source.width % 4 === 0 && n >= 4,
    targetQuads: target !== undefined && target.width % 4 === 0 && n >= 4,
    saves: saves !== undefined,
    stores: target !== undefined,
  }));
}

/** Fills the struct Params of sweepShader, field by field. */
function sweepParams({sizes}: Product, rows: Rows, legs: PassLeg[]): ArrayBuffer {
  return Uint32Array.of(
    rows.count,
    rows.first,
    sizes.stacks,
    ...legs.flatMap(({source, target}) => [source.width, target?.width ?? 0]),
  ).buffer;
}
