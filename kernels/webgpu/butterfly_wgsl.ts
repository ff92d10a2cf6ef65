/**
 * WGSL of sweeps through factors of butterfly matrices. A workgroup takes elements of some rows through the factors of a
 * pass in workgroup memory. On the way it may leave each factor's input in a buffer: the inputs on a leg through the
 * factors, and the gradients on a leg back through their conjugate transposes, are what the twiddle's gradient is made of.
 */
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

const partNames = (complex: boolean, name: string) => (complex ? [name, `${name}Imag`] : [name]);

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

const numberType = (complex: boolean) => (complex ? 'vec2f' : 'f32');

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

fn logStrideOf(factor: u32) -> u32 {
  let position = factor % params.logN;
  let isIncreasing = (params.increasingStride == 1u) != (factor / params.logN % 2u == 1u);
  return select(params.logN - 1u - position, position, isIncreasing);
}
${lines(legs.length, (leg) => multipliedFunction(complex, legs[leg], leg))}
${entryPoint(
  threads,
  `
  // A workgroup's elements are told by a stack, its rows, and the bits above and below those of the pass.
  let tileRowBits = params.spanBits + params.laneBits;
  let groupBits = params.logN - tileRowBits;
  let group = workgroup & ((1u << groupBits) - 1u);
  let stack = (workgroup >> groupBits) % params.stacks;
  let firstRow = ((workgroup >> groupBits) / params.stacks) << params.rowBits;
  if (firstRow >= params.rows) { return; }
  let outerLowBits = params.lowBit - params.laneBits;
  let base = ((group >> outerLowBits) << (params.lowBit + params.spanBits)) +
    ((group & ((1u << outerLowBits) - 1u)) << params.laneBits);
  let tileElements = 1u << (tileRowBits + params.rowBits);
  // Invocations side by side take pairs side by side; those that are left take further rows.
  let pairs = 1u << (tileRowBits - 1u);
  let pairsAcross = min(pairs, ${threads}u);
  let rowsAcross = ${threads}u / pairsAcross;
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
  const save = `let saved = (((factor * params.rows + row) * params.stacks + stack) << params.logN) + element;
        saves${leg}[saved] = x[0];
        saves${leg}[saved + stride] = x[1];`;
  return `${load}
  for (var step = params.firstStep; step < params.endStep; step++) {
    let factor = ${transposed ? 'params.factors - 1u - step' : 'step'};
    let logStride = logStrideOf(factor);
    let stride = 1u << logStride;
    let bit = logStride - params.lowBit + params.laneBits;
    workgroupBarrier();
    for (var pair = localIndex % pairsAcross; pair < pairs; pair += pairsAcross) {
      let first = ((pair >> bit) << (bit + 1u)) | (pair & ((1u << bit) - 1u));
      let second = first | (1u << bit);
      let element = elementOf(base, first);
      let t = ((element >> (logStride + 1u)) << logStride) | (element & (stride - 1u));
      let matrix = ((stack * params.factors + factor) << (params.logN - 1u)) + t;
      ${partNames(complex, 'twiddle')
        .map((name, part) => `let entries${part} = ${name}[matrix];`)
        .join('\n      ')}
      for (var tileRow = localIndex / pairsAcross; tileRow < (1u << params.rowBits); tileRow += rowsAcross) {
        let row = firstRow + tileRow;
        if (row >= params.rows) { break; }
        let start = tileRow << tileRowBits;
        let x = array<${number}, 2>(tile[start + first], tile[start + second]);
        ${saves ? save : ''}
        let y = multiplied${leg}(${complex ? 'entries0, entries1' : 'entries0'}, x);
        tile[start + first] = y[0];
        tile[start + second] = y[1];
      }
    }
  }
  ${stores ? `workgroupBarrier();\n  ${store}` : ''}`;
}

/** A pair multiplied by the matrix with these entries, the way that a leg does it. */
function multipliedFunction(complex: boolean, {transposed, conjugated}: LegVariant, leg: number): string {
  const rowsOf = (entries: string) =>
    transposed ? [`${entries}.xz`, `${entries}.yw`] : [`${entries}.xy`, `${entries}.zw`];
  const reals = rowsOf('reals');
  if (!complex) {
    return `
fn multiplied${leg}(reals: vec4f, x: array<f32, 2>) -> array<f32, 2> {
  let pair = vec2f(x[0], x[1]);
  return array<f32, 2>(${reals.map((row) => `dot(${row}, pair)`).join(', ')});
}`;
  }
  const imags = rowsOf('imags');
  const products = reals.map(
    (real, i) =>
      `\n    vec2f(dot(${real}, xReals) - dot(${imags[i]}, xImags), dot(${real}, xImags) + dot(${imags[i]}, xReals))`,
  );
  return `
fn multiplied${leg}(reals: vec4f, givenImags: vec4f, x: array<vec2f, 2>) -> array<vec2f, 2> {
  let imags = ${conjugated ? '-' : ''}givenImags;
  let xReals = vec2f(x[0].x, x[1].x);
  let xImags = vec2f(x[0].y, x[1].y);
  return array<vec2f, 2>(${products.join(',')});
}`;
}
