/**
 * WGSL of products with butterfly matrices. A sweep takes rows through some factors of a matrix, or of its conjugate
 * transpose in the backward pass, in workgroup memory; on the way it may leave each factor's input in `saves`, from which
 * another kernel makes the gradient of the twiddle.
 */
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';
import {lines} from './tile_wgsl.js';

export const SWEEP_THREADS = 256;
export const GRADIENT_THREADS = 64;

/** What the code of a sweep depends on; the rest is in its uniforms. */
export interface SweepVariant {
  complex: boolean;
  /** Multiplies by transposed factors. */
  transposed: boolean;
  /** Multiplies by complex conjugates. */
  conjugated: boolean;
  saves: boolean;
  /** Whether what comes out is stored, or only what is saved on the way. */
  stores: boolean;
  /** log2 of the elements in workgroup memory. */
  tileBits: number;
}

/** Filled by `sweepParams` in butterfly_multiply.ts. */
const sweepParamsStruct = `
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
  // Whether the steps go through the factors from the last to the first.
  reversed: u32,
  increasingStride: u32,
  // See butterfly_passes.ts.
  lowBit: u32,
  spanBits: u32,
  laneBits: u32,
  // log2 of the rows that a workgroup takes.
  rowBits: u32,
  // Columns of source and target, and whether each stack has its own n of them.
  sourceWidth: u32,
  sourceIsSplit: u32,
  targetWidth: u32,
  targetIsSplit: u32,
}`;

const parts = (complex: boolean, name: string) => (complex ? [name, `${name}Imag`] : [name]);

const float = (name: string, access: Binding['access']): Binding => ({name, access, element: 'f32'});

export function sweepShader(variant: SweepVariant): Shader {
  const {complex, saves, stores, tileBits} = variant;
  const names = (name: string) => parts(complex, name);
  const bindings: Binding[] = [
    ...names('source').map((name) => float(name, 'read')),
    ...names('twiddle').map((name): Binding => ({name, access: 'read', element: 'vec4f'})),
    ...(stores ? names('output').map((name) => float(name, 'read_write')) : []),
    ...(saves ? names('saves').map((name) => float(name, 'read_write')) : []),
  ];
  const number = complex ? 'vec2f' : 'f32';
  const read = (name: string, place: string) =>
    complex ? `vec2f(${name}[${place}], ${name}Imag[${place}])` : `${name}[${place}]`;
  const write = (name: string, place: string, value: string) =>
    names(name)
      .map((buffer, part) => `${buffer}[${place}] = ${value}${complex ? ['.x', '.y'][part] : ''};`)
      .join(' ');
  const eachElement = (body: string) => `
  for (var item = localIndex; item < tileElements; item += ${SWEEP_THREADS}u) {
    let row = firstRow + (item >> tileRowBits);
    if (row < params.rows) {
      let element = elementOf(base, item & ((1u << tileRowBits) - 1u));
      ${body}
    }
  }`;
  return makeShader(
    bindings,
    sweepParamsStruct,
    `
var<workgroup> tile: array<${number}, ${2 ** tileBits}>;

// The number, within n, of an element of the tile, of which \`base\` is the first.
fn elementOf(base: u32, place: u32) -> u32 {
  let lane = place & ((1u << params.laneBits) - 1u);
  return base + ((place >> params.laneBits) << params.lowBit) + lane;
}

// Which column of a row with so many columns holds an element; the width or more where none does.
fn columnOf(stack: u32, element: u32, isSplit: u32) -> u32 {
  return select(element, (stack << params.logN) + element, isSplit == 1u);
}

struct Step { factor: u32, logStride: u32 }

fn stepAt(index: u32) -> Step {
  let factor = select(index, params.factors - 1u - index, params.reversed == 1u);
  let position = factor % params.logN;
  let isIncreasing = (params.increasingStride == 1u) != (factor / params.logN % 2u == 1u);
  return Step(factor, select(params.logN - 1u - position, position, isIncreasing));
}
${complex ? complexPair(variant) : realPair(variant)}
${entryPoint(
  SWEEP_THREADS,
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
  ${eachElement(`
      let column = columnOf(stack, element, params.sourceIsSplit);
      var value = ${number}();
      if (column < params.sourceWidth) {
        let place = (params.firstRow + row) * params.sourceWidth + column;
        value = ${read('source', 'place')};
      }
      tile[item] = value;`)}

  // Invocations side by side take pairs side by side; those that are left take further rows.
  let pairs = 1u << (tileRowBits - 1u);
  let pairsAcross = min(pairs, ${SWEEP_THREADS}u);
  let rowsAcross = ${SWEEP_THREADS}u / pairsAcross;
  for (var index = params.firstStep; index < params.endStep; index++) {
    let step = stepAt(index);
    let bit = step.logStride - params.lowBit + params.laneBits;
    workgroupBarrier();
    for (var pair = localIndex % pairsAcross; pair < pairs; pair += pairsAcross) {
      let first = ((pair >> bit) << (bit + 1u)) | (pair & ((1u << bit) - 1u));
      let second = first | (1u << bit);
      let element = elementOf(base, first);
      let strideMask = (1u << step.logStride) - 1u;
      let t = ((element >> (step.logStride + 1u)) << step.logStride) | (element & strideMask);
      let matrix = ((stack * params.factors + step.factor) << (params.logN - 1u)) + t;
      ${names('twiddle')
        .map((name, part) => `let entries${part} = ${name}[matrix];`)
        .join('\n      ')}
      for (var tileRow = localIndex / pairsAcross; tileRow < (1u << params.rowBits); tileRow += rowsAcross) {
        let row = firstRow + tileRow;
        if (row >= params.rows) { break; }
        let start = tileRow << tileRowBits;
        let x = array<${number}, 2>(tile[start + first], tile[start + second]);
        ${
          saves
            ? `let saved = (((step.factor * params.rows + row) * params.stacks + stack) << params.logN) + element;
        ${write('saves', 'saved', 'x[0]')}
        ${write('saves', 'saved + strideMask + 1u', 'x[1]')}`
            : ''
        }
        ${complex ? 'let y = multiplied(entries0, entries1, x);' : 'let y = multiplied(entries0, x);'}
        tile[start + first] = y[0];
        tile[start + second] = y[1];
      }
    }
  }
  ${
    stores
      ? `workgroupBarrier();
  ${eachElement(`
      let column = columnOf(stack, element, params.targetIsSplit);
      if (column < params.targetWidth) {
        let place = (params.firstRow + row) * params.targetWidth + column;
        ${write('output', 'place', 'tile[item]')}
      }`)}`
      : ''
  }`,
)}`,
  );
}

/** The matrix of a pair, as its rows: (T00, T01), (T10, T11). */
const rowsOfMatrix = (transposed: boolean, entries: string) =>
  transposed ? [`${entries}.xz`, `${entries}.yw`] : [`${entries}.xy`, `${entries}.zw`];

function realPair({transposed}: SweepVariant): string {
  const [first, second] = rowsOfMatrix(transposed, 'entries');
  return `
fn multiplied(entries: vec4f, x: array<f32, 2>) -> array<f32, 2> {
  let pair = vec2f(x[0], x[1]);
  return array<f32, 2>(dot(${first}, pair), dot(${second}, pair));
}`;
}

function complexPair({transposed, conjugated}: SweepVariant): string {
  const reals = rowsOfMatrix(transposed, 'reals');
  const imags = rowsOfMatrix(transposed, 'imags');
  return `
fn multiplied(reals: vec4f, givenImags: vec4f, x: array<vec2f, 2>) -> array<vec2f, 2> {
  let imags = ${conjugated ? '-' : ''}givenImags;
  let xReals = vec2f(x[0].x, x[1].x);
  let xImags = vec2f(x[0].y, x[1].y);
  return array<vec2f, 2>(${reals
    .map(
      (real, i) =>
        `\n    vec2f(dot(${real}, xReals) - dot(${imags[i]}, xImags), dot(${real}, xImags) + dot(${imags[i]}, xReals))`,
    )
    .join(',')});
}`;
}

/** What the code of the twiddle's gradient depends on. */
export interface TwiddleGradientVariant {
  complex: boolean;
  transposed: boolean;
  conjugated: boolean;
}

/** Filled by `gradientParams` in butterfly_multiply.ts. */
const gradientParamsStruct = `
struct Params {
  rows: u32,
  stacks: u32,
  logN: u32,
  factors: u32,
  increasingStride: u32,
  // Rows that an invocation adds up, how many such chunks there are here, and which number the first one has.
  chunkRows: u32,
  chunks: u32,
  firstChunk: u32,
}`;

/**
 * Each invocation adds up g·conj(x)ᵀ over a chunk of rows for one 2 × 2 matrix: `xs` are the inputs that the matrices
 * saw, `gradients` what came back to their outputs.
 */
export function twiddleGradientShader({complex, transposed, conjugated}: TwiddleGradientVariant): Shader {
  const names = (name: string) => parts(complex, name);
  const bindings: Binding[] = [
    ...names('xs').map((name) => float(name, 'read')),
    ...names('gradients').map((name) => float(name, 'read')),
    ...names('sums').map((name): Binding => ({name, access: 'read_write', element: 'vec4f'})),
  ];
  // The entries (0,0), (0,1), (1,0), (1,1) of the twiddle: row and column of the matrix, which may be its transpose.
  const [g, x] = transposed ? ['g.xyxy', 'x.xxyy'] : ['g.xxyy', 'x.xyxy'];
  const load = (variable: string, name: string) => `let ${variable} = vec2f(${name}[place], ${name}[place + stride]);`;
  const sign = conjugated ? '-' : '';
  return makeShader(
    bindings,
    gradientParamsStruct,
    entryPoint(
      GRADIENT_THREADS,
      `
  let pairs = 1u << (params.logN - 1u);
  let matrices = params.stacks * params.factors * pairs;
  let item = workgroup * ${GRADIENT_THREADS}u + localIndex;
  if (item >= matrices * params.chunks) { return; }
  let t = item % pairs;
  let factor = item / pairs % params.factors;
  let stack = item / pairs / params.factors % params.stacks;
  let chunk = item / matrices;
  let position = factor % params.logN;
  let isIncreasing = (params.increasingStride == 1u) != (factor / params.logN % 2u == 1u);
  let logStride = select(params.logN - 1u - position, position, isIncreasing);
  let stride = 1u << logStride;
  let element = ((t >> logStride) << (logStride + 1u)) | (t & (stride - 1u));
  ${lines(complex ? 2 : 1, (part) => `var sum${part} = vec4f();`)}
  let endRow = min((chunk + 1u) * params.chunkRows, params.rows);
  for (var row = chunk * params.chunkRows; row < endRow; row++) {
    let place = (((factor * params.rows + row) * params.stacks + stack) << params.logN) + element;
    ${load('x', 'xs')}
    ${load('g', 'gradients')}
    ${
      complex
        ? `${load('xImag', 'xsImag')}
    ${load('gImag', 'gradientsImag')}
    sum0 += ${g} * ${x} + ${g.replace('g', 'gImag')} * ${x.replace('x', 'xImag')};
    sum1 += ${g.replace('g', 'gImag')} * ${x} - ${g} * ${x.replace('x', 'xImag')};`
        : `sum0 += ${g} * ${x};`
    }
  }
  let place = (params.firstChunk + chunk) * matrices + (stack * params.factors + factor) * pairs + t;
  sums[place] = sum0;
  ${complex ? `sumsImag[place] = ${sign}sum1;` : ''}`,
    ),
  );
}

/** Adds up the chunks' sums, in a fixed order: one invocation per matrix. */
export function chunkSumShader(): Shader {
  return makeShader(
    [
      {name: 'sums', access: 'read', element: 'vec4f'},
      {name: 'total', access: 'read_write', element: 'vec4f'},
    ],
    `
struct Params { matrices: u32, chunks: u32 }`,
    entryPoint(
      GRADIENT_THREADS,
      `
  let matrix = workgroup * ${GRADIENT_THREADS}u + localIndex;
  if (matrix >= params.matrices) { return; }
  var sum = vec4f();
  for (var chunk = 0u; chunk < params.chunks; chunk++) { sum += sums[chunk * params.matrices + matrix]; }
  total[matrix] = sum;`,
    ),
  );
}
