/**
 * WGSL of sweeps through factors of butterfly matrices. A workgroup takes elements of some rows through the factors of a
 * pass in workgroup memory. On the way it may leave each factor's input in a buffer: the inputs on a leg through the
 * factors, and the gradients on a leg back through their conjugate transposes, are what the twiddle's gradient is made of.
 */
import {applyFactors, factorFunctions, numberType, pairFunction, partNames} from './butterfly_factors_wgsl.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';
import {lines} from './tile_wgsl.js';

/** What the code of a sweep depends on; the rest is in its uniforms. */
export interface SweepVariant {
  complex: boolean;
  /** Invocations of a workgroup. */
  threads: number;
  /** log2 of the elements in workgroup memory. */
  tileBits: number;
  /** The ways through the factors, one after the other, each with rows of its own. */
  legs: LegVariant[];
}

export interface LegVariant {
  /** Goes through the factors from the last to the first, and multiplies by their transposes. */
  transposed: boolean;
  /** Multiplies by complex conjugates. */
  conjugated: boolean;
  /** Whether each stack has n columns of the source of its own. */
  splitSource: boolean;
  /** Whether each factor's input is stored. */
  saves: boolean;
  /** Whether what comes out is stored. */
  stores: boolean;
}

/** Filled by `sweepParams` in butterfly_sweep.ts. */
const paramsStruct = (legs: number) => `
struct Params {
  // Rows of this dispatch, and the number of the first one.
  rows: u32,
  firstRow: u32,
  stacks: u32,
  logN: u32,
  // Of a stack; a block has logN.
  factors: u32,
  // The steps of this pass, counted in the order in which they are applied.
  firstStep: u32,
  endStep: u32,
  increasingStride: u32,
  // See butterfly_passes.ts.
  lowBit: u32,
  spanBits: u32,
  laneBits: u32,
  // log2 of the rows that a workgroup takes.
  rowBits: u32,
  // Columns of each leg's buffers.
  ${lines(legs, (leg) => `sourceWidth${leg}: u32,\n  targetWidth${leg}: u32,`)}
}`;

/** The buffers that a sweep binds. */
export function sweepBindings(complex: boolean, legs: LegVariant[]): Binding[] {
  const floats = (name: string, access: Binding['access']) =>
    partNames(complex, name).map((part): Binding => ({name: part, access, element: 'f32'}));
  return [
    ...partNames(complex, 'twiddle').map((name): Binding => ({name, access: 'read', element: 'vec4f'})),
    ...legs.flatMap(({saves, stores}, leg): Binding[] => [
      ...floats(`source${leg}`, 'read'),
      ...(saves ? [{name: `saves${leg}`, access: 'read_write', element: numberType(complex)} as const] : []),
      ...(stores ? floats(`target${leg}`, 'read_write') : []),
    ]),
  ];
}

export function sweepShader(variant: SweepVariant): Shader {
  const {complex, threads, tileBits, legs} = variant;
  return makeShader(
    sweepBindings(complex, legs),
    paramsStruct(legs.length),
    `
var<workgroup> tile: array<${numberType(complex)}, ${2 ** tileBits}>;

// The number, within n, of an element of the tile, of which \`base\` is the first.
fn elementOf(base: u32, place: u32) -> u32 {
  let lane = place & ((1u << params.laneBits) - 1u);
  return base + ((place >> params.laneBits) << params.lowBit) + lane;
}
${factorFunctions}
${lines(legs.length, (leg) => pairFunction(`multiplied${leg}`, {complex, ...legs[leg]}))}
${entryPoint(
  threads,
  `
  // A workgroup's elements are told by a stack, its rows, and the bits above and below those of the pass.
  let tileRowBits = params.spanBits + params.laneBits;
  let outerBits = params.logN - tileRowBits;
  let outer = workgroup & ((1u << outerBits) - 1u);
  let stack = (workgroup >> outerBits) % params.stacks;
  let firstRow = ((workgroup >> outerBits) / params.stacks) << params.rowBits;
  if (firstRow >= params.rows) { return; }
  let outerLowBits = params.lowBit - params.laneBits;
  let base = ((outer >> outerLowBits) << (params.lowBit + params.spanBits)) +
    ((outer & ((1u << outerLowBits) - 1u)) << params.laneBits);
  let tileElements = 1u << (tileRowBits + params.rowBits);
  ${legs.map((_, leg) => legCode(variant, leg)).join('\n  workgroupBarrier();\n')}`,
)}`,
  );
}

/** Fills the tile, takes it through the factors and stores it. */
function legCode({complex, threads, legs}: SweepVariant, leg: number): string {
  const {transposed, splitSource, saves, stores} = legs[leg];
  const number = numberType(complex);
  const [sources, targets] = [partNames(complex, `source${leg}`), partNames(complex, `target${leg}`)];
  const eachElement = (body: string) => `
  for (var item = localIndex; item < tileElements; item += ${threads}u) {
    let row = firstRow + (item >> tileRowBits);
    if (row < params.rows) {
      let element = elementOf(base, item & ((1u << tileRowBits) - 1u));
      ${body}
    }
  }`;
  const load = eachElement(`let column = ${splitSource ? '(stack << params.logN) + element' : 'element'};
      var value = ${number}();
      if (column < params.sourceWidth${leg}) {
        let place = (params.firstRow + row) * params.sourceWidth${leg} + column;
        value = ${number}(${sources.map((name) => `${name}[place]`).join(', ')});
      }
      tile[item] = value;`);
  const store = eachElement(`let column = (stack << params.logN) + element;
      if (column < params.targetWidth${leg}) {
        let place = (params.firstRow + row) * params.targetWidth${leg} + column;
        ${targets.map((name, part) => `${name}[place] = tile[item]${complex ? ['.x', '.y'][part] : ''};`).join(' ')}
      }`);
  const factorOf = (step: string) => (transposed ? `params.factors - 1u - ${step}` : step);
  const code = {complex, threads, multiply: `multiplied${leg}`, saves: saves ? `saves${leg}` : undefined};
  return `${load}
  for (var step = params.firstStep; step < params.endStep;) {
    let factor0 = ${factorOf('step')};
    let factor1 = ${factorOf('min(step + 1u, params.endStep - 1u)')};
    let logStride0 = logStrideOf(factor0);
    let logStride1 = logStrideOf(factor1);
    workgroupBarrier();
    // The last factor is left alone, and the last of a block may pair the same elements as the first of the next.
    if (logStride0 != logStride1) {
      ${applyFactors(code, 2)}
      step += 2u;
    } else {
      ${applyFactors(code, 1)}
      step += 1u;
    }
  }
  ${stores ? `workgroupBarrier();\n  ${store}` : ''}`;
}
