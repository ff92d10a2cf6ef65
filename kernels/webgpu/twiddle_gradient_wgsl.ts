/**
 * WGSL of the gradient of a twiddle: the sum of g·conj(x)ᵀ over rows. A workgroup adds up a chunk of rows for neighbouring
 * matrices; where that leaves several chunks, another dispatch adds those up. Always in the same order.
 */
import {type MatrixVariant, numberType, partNames, zeroBitFunction} from './butterfly_factors_wgsl.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';
import {lines} from './tile_wgsl.js';

/** Matrices of a workgroup, side by side in memory as are the elements that they see: reads of 64 bytes or more. */
export const MATRICES_ACROSS = 16;
/** Invocations that share the terms of one matrix. */
const LANES = 16;
const THREADS = MATRICES_ACROSS * LANES;

/** Filled by `addRows` in twiddle_gradient.ts. */
const gradientParamsStruct = `
struct Params {
  rows: u32,
  stacks: u32,
  logN: u32,
  factors: u32,
  increasingStride: u32,
  // Rows of a chunk, how many chunks there are here, and which number the first one has.
  chunkRows: u32,
  chunks: u32,
  firstChunk: u32,
}`;

/** log2 of the stride of a factor, by its number among those of its stack. */
const logStrideFunction = `
fn logStrideOf(factor: u32) -> u32 {
  let position = factor % params.logN;
  let isIncreasing = (params.increasingStride == 1u) != (factor / params.logN % 2u == 1u);
  return select(params.logN - 1u - position, position, isIncreasing);
}`;

/**
 * `xs` are the inputs that the matrices saw, `gradients` what came back to their outputs, complex numbers as pairs; the
 * variant is how the matrices multiplied `xs`.
 */
export function twiddleGradientShader({complex, transposed, conjugated}: MatrixVariant): Shader {
  const bindings: Binding[] = [
    {name: 'xs', access: 'read', element: numberType(complex)},
    {name: 'gradients', access: 'read', element: numberType(complex)},
    ...partNames(complex, 'sums').map((name): Binding => ({name, access: 'read_write', element: 'vec4f'})),
  ];
  return makeShader(
    bindings,
    gradientParamsStruct,
    `
${laneMemory(complex ? 2 : 1)}
${zeroBitFunction}
${logStrideFunction}
${entryPoint(
  THREADS,
  `
  let pairs = 1u << (params.logN - 1u);
  let matrices = params.stacks * params.factors * pairs;
  let groups = (matrices + ${MATRICES_ACROSS - 1}u) / ${MATRICES_ACROSS}u;
  let chunk = workgroup / groups;
  if (chunk >= params.chunks) { return; }
  let matrix = workgroup % groups * ${MATRICES_ACROSS}u + localIndex % ${MATRICES_ACROSS}u;
  let lane = localIndex / ${MATRICES_ACROSS}u;
  let t = matrix % pairs;
  let factor = matrix / pairs % params.factors;
  let stack = matrix / pairs / params.factors;
  let logStride = logStrideOf(factor);
  let stride = 1u << logStride;
  let element = withZeroBit(t, logStride);
  ${lines(complex ? 2 : 1, (part) => `var sum${part} = vec4f();`)}
  let endRow = select(0u, min((chunk + 1u) * params.chunkRows, params.rows), matrix < matrices);
  for (var row = chunk * params.chunkRows + lane; row < endRow; row += ${LANES}u) {
    let place = (((factor * params.rows + row) * params.stacks + stack) << params.logN) + element;
    ${complex ? addComplexTerm(transposed) : addTerm(transposed)}
  }
  ${addLanes(complex ? 2 : 1)}
  if (lane == 0u && matrix < matrices) {
    let place = (params.firstChunk + chunk) * matrices + matrix;
    sums[place] = lanes0[localIndex];
    ${complex ? `sumsImag[place] = ${conjugated ? '-' : ''}lanes1[localIndex];` : ''}
  }`,
)}`,
  );
}

/** The entries (0,0), (0,1), (1,0), (1,1) of the twiddle: row and column of the matrix, which may be its transpose. */
const outerProduct = (transposed: boolean, g: string, x: string) =>
  transposed ? `${g}.xyxy * ${x}.xxyy` : `${g}.xxyy * ${x}.xyxy`;

const addTerm = (transposed: boolean) => `
    let x = vec2f(xs[place], xs[place + stride]);
    let g = vec2f(gradients[place], gradients[place + stride]);
    sum0 += ${outerProduct(transposed, 'g', 'x')};`;

function addComplexTerm(transposed: boolean): string {
  const product = (g: string, x: string) => outerProduct(transposed, g, x);
  return `
    let x = mat2x2f(xs[place], xs[place + stride]);
    let g = mat2x2f(gradients[place], gradients[place + stride]);
    let xReal = vec2f(x[0].x, x[1].x);
    let xImag = vec2f(x[0].y, x[1].y);
    let gReal = vec2f(g[0].x, g[1].x);
    let gImag = vec2f(g[0].y, g[1].y);
    sum0 += ${product('gReal', 'xReal')} + ${product('gImag', 'xImag')};
    sum1 += ${product('gImag', 'xReal')} - ${product('gReal', 'xImag')};`;
}

const laneMemory = (parts: number) => lines(parts, (part) => `var<workgroup> lanes${part}: array<vec4f, ${THREADS}>;`);

/** Adds up `sum0`, `sum1` of the lanes of each matrix; the first lane then has the totals in `lanes0`, `lanes1`. */
const addLanes = (parts: number) => `
  ${lines(parts, (part) => `lanes${part}[localIndex] = sum${part};`)}
  for (var half = ${LANES / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) {
      let other = localIndex + half * ${MATRICES_ACROSS}u;
      ${lines(parts, (part) => `lanes${part}[localIndex] += lanes${part}[other];`)}
    }
  }`;

/** Adds up the chunks' sums. */
export function chunkSumShader(): Shader {
  return makeShader(
    [
      {name: 'sums', access: 'read', element: 'vec4f'},
      {name: 'total', access: 'read_write', element: 'vec4f'},
    ],
    `
struct Params { matrices: u32, chunks: u32 }`,
    `
${laneMemory(1)}
${entryPoint(
  THREADS,
  `
  let matrix = workgroup * ${MATRICES_ACROSS}u + localIndex % ${MATRICES_ACROSS}u;
  let lane = localIndex / ${MATRICES_ACROSS}u;
  let endChunk = select(0u, params.chunks, matrix < params.matrices);
  var sum0 = vec4f();
  for (var chunk = lane; chunk < endChunk; chunk += ${LANES}u) { sum0 += sums[chunk * params.matrices + matrix]; }
  ${addLanes(1)}
  if (lane == 0u && matrix < params.matrices) { total[matrix] = lanes0[localIndex]; }`,
)}`,
  );
}
