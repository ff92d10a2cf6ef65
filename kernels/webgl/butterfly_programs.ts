/**
 * Programs of products with butterfly matrices: one that applies one or two factors, and one that sums up the gradient of
 * one factor's matrices. States between factors are [batch, stacks·n], so that a texel is two rows × two elements;
 * a twiddle's texel is one 2 × 2 matrix. Complex numbers take a program for either part.
 */
import type {PackedProgram} from './packed_program.js';
import {texel, textureAccess} from './textures_glsl.js';

/** Uniforms of every program. */
export const butterflyUniforms = [
  {name: 'batch', type: 'int'},
  {name: 'stacks', type: 'int'},
  {name: 'logN', type: 'int'},
  // Factors of a stack.
  {name: 'factors', type: 'int'},
  // Columns of source and output, or of xs and gradients, and whether each stack has its own n of them.
  {name: 'sourceWidth', type: 'int'},
  {name: 'sourceIsSplit', type: 'int'},
  {name: 'outputWidth', type: 'int'},
  {name: 'outputIsSplit', type: 'int'},
  // The factors that are applied, and log2 of the distances of their pairs.
  {name: 'firstFactor', type: 'int'},
  {name: 'firstLogStride', type: 'int'},
  {name: 'secondFactor', type: 'int'},
  {name: 'secondLogStride', type: 'int'},
  // Pairs of rows that one sum takes.
  {name: 'chunkPairs', type: 'int'},
] as const;

/** What the programs depend on. */
export interface ButterflyVariant {
  complex: boolean;
  /** Multiplies by transposed factors. */
  transposed: boolean;
  /** Multiplies by complex conjugates. */
  conjugated: boolean;
}

export type Part = 'real' | 'imag';

/** One element of two rows, as a `vec2`, or complex as (two real parts, two imaginary parts). */
const numberType = (complex: boolean) => (complex ? 'vec4' : 'vec2');

const partNames = (complex: boolean, name: string) => (complex ? [name, `${name}Imag`] : [name]);

/** GLSL of a function that reads one element of two rows of a state, 0 where there is none. */
function readFunction(name: string, texture: string, complex: boolean, width: string, isSplit: string): string {
  const parts = partNames(complex, texture).map((input) => {
    const quad = texel(input, `rowPair * pairs(${width}) + column / 2`);
    return `twoRows(${quad}, rowPair, column)`;
  });
  return `
${numberType(complex)} ${name}(int rowPair, int stack, int element) {
  int column = ${isSplit} == 1 ? (stack << logN) + element : element;
  if (column >= ${width}) return ${numberType(complex)}(0.0);
  return ${complex ? `vec4(${parts.join(', ')})` : parts[0]};
}`;
}

const twoRowsFunction = `
// A column of a texel; its second row may be padding.
vec2 twoRows(vec4 quad, int rowPair, int column) {
  vec2 rows = columnOf(quad, column);
  return 2 * rowPair + 1 < batch ? rows : vec2(rows.x, 0.0);
}

// Which pair an element belongs to.
int pairOf(int element, int logStride) {
  return ((element >> (logStride + 1)) << logStride) | (element & ((1 << logStride) - 1));
}`;

/** GLSL that multiplies a number by an entry of a matrix. */
const timesFunction = (complex: boolean, conjugated: boolean) =>
  complex
    ? `
vec4 times(vec2 entry, vec4 x) {
  return vec4(entry.x * x.xy ${conjugated ? '+' : '-'} entry.y * x.zw, entry.x * x.zw ${conjugated ? '-' : '+'} entry.y * x.xy);
}`
    : `
vec2 times(float entry, vec2 x) {
  return entry * x;
}`;

/**
 * Applies one factor, or two one after the other. A fragment makes two elements of two rows; each depends on two elements
 * of the source for one factor and on four for two.
 */
export function factorProgram(variant: ButterflyVariant, count: 1 | 2, part: Part): PackedProgram {
  const {complex, transposed, conjugated} = variant;
  const entryType = complex ? 'vec2' : 'float';
  const inputs = [...partNames(complex, 'source'), ...partNames(complex, 'twiddle')];
  const rowOf = (matrix: string) =>
    transposed ? `(bit == 0 ? ${matrix}.xz : ${matrix}.yw)` : `(bit == 0 ? ${matrix}.xy : ${matrix}.zw)`;
  const rows = partNames(complex, 'twiddle').map((input) => rowOf(texel(input, 'matrix')));
  const applied = (name: string, before: string, factor: string, logStride: string) => `
${numberType(complex)} ${name}(int rowPair, int stack, int element) {
  int bit = (element >> ${logStride}) & 1;
  int matrix = ((stack * factors + ${factor}) << (logN - 1)) + pairOf(element, ${logStride});
  ${complex ? `vec2 reals = ${rows[0]}; vec2 imags = ${rows[1]};` : `vec2 row = ${rows[0]};`}
  ${entryType} entry0 = ${complex ? 'vec2(reals.x, imags.x)' : 'row.x'};
  ${entryType} entry1 = ${complex ? 'vec2(reals.y, imags.y)' : 'row.y'};
  int other = element ^ (1 << ${logStride});
  return times(entry0, ${before}(rowPair, stack, bit == 0 ? element : other)) +
    times(entry1, ${before}(rowPair, stack, bit == 0 ? other : element));
}`;
  const last = count === 2 ? 'afterSecond' : 'afterFirst';
  const rowsOf = (number: string) => (complex ? `${number}.${part === 'real' ? 'xy' : 'zw'}` : number);
  return {
    inputs,
    code: `
${textureAccess}
${twoRowsFunction}
${timesFunction(complex, conjugated)}
${readFunction('sourceAt', 'source', complex, 'sourceWidth', 'sourceIsSplit')}
${applied('afterFirst', 'sourceAt', 'firstFactor', 'firstLogStride')}
${count === 2 ? applied('afterSecond', 'afterFirst', 'secondFactor', 'secondLogStride') : ''}
void main() {
  int index = outputTexel();
  int rowPair = index / pairs(outputWidth);
  // Textures may be larger than what they hold.
  if (2 * rowPair >= batch) { setOutput(vec4(0.0)); return; }
  int column = index % pairs(outputWidth) * 2;
  int stack = column >> logN;
  int element = column & ((1 << logN) - 1);
  ${numberType(complex)} left = ${last}(rowPair, stack, element);
  ${numberType(complex)} right = ${last}(rowPair, stack, element + 1);
  vec2 leftRows = ${rowsOf('left')};
  vec2 rightRows = ${rowsOf('right')};
  setOutput(vec4(leftRows.x, rightRows.x, leftRows.y, rightRows.y));
}`,
  };
}

/**
 * g·conj(x)ᵀ of one factor's matrices, summed over a chunk of rows: [chunks, stacks, n / 2, 2, 2], of which a fragment
 * makes one matrix. `xs` are the factor's inputs, `gradients` what came back to its outputs.
 */
export function matrixGradientProgram(variant: ButterflyVariant, part: Part): PackedProgram {
  const {complex, transposed, conjugated} = variant;
  // A matrix is (0,0), (0,1), (1,0), (1,1); that of a transposed factor has its rows along x.
  const [gOrder, xOrder] = transposed ? ['xyxy', 'xxyy'] : ['xxyy', 'xyxy'];
  const rowsOf = (number: string, ofPart: Part) => (complex ? `${number}.${ofPart === 'real' ? 'xy' : 'zw'}` : number);
  const product = (row: number, gPart: Part, xPart: Part) => {
    const component = row === 0 ? 'x' : 'y';
    const pair = (name: string, ofPart: Part) =>
      `vec2(${rowsOf(`${name}0`, ofPart)}.${component}, ${rowsOf(`${name}1`, ofPart)}.${component})`;
    return `${pair('g', gPart)}.${gOrder} * ${pair('x', xPart)}.${xOrder}`;
  };
  const term = (row: number) => {
    if (!complex) return product(row, 'real', 'real');
    return part === 'real'
      ? `${product(row, 'real', 'real')} + ${product(row, 'imag', 'imag')}`
      : `${conjugated ? '-' : ''}(${product(row, 'imag', 'real')} - ${product(row, 'real', 'imag')})`;
  };
  return {
    inputs: [...partNames(complex, 'xs'), ...partNames(complex, 'gradients')],
    code: `
${textureAccess}
${twoRowsFunction}
${readFunction('xAt', 'xs', complex, 'sourceWidth', 'sourceIsSplit')}
${readFunction('gradientAt', 'gradients', complex, 'outputWidth', 'outputIsSplit')}
void main() {
  int matrix = outputTexel();
  int t = matrix & ((1 << (logN - 1)) - 1);
  int stack = (matrix >> (logN - 1)) % stacks;
  int chunk = (matrix >> (logN - 1)) / stacks;
  int element = ((t >> firstLogStride) << (firstLogStride + 1)) | (t & ((1 << firstLogStride) - 1));
  int other = element | (1 << firstLogStride);
  vec4 sum = vec4(0.0);
  int endPair = min((chunk + 1) * chunkPairs, pairs(batch));
  for (int rowPair = chunk * chunkPairs; rowPair < endPair; rowPair++) {
    ${numberType(complex)} x0 = xAt(rowPair, stack, element);
    ${numberType(complex)} x1 = xAt(rowPair, stack, other);
    ${numberType(complex)} g0 = gradientAt(rowPair, stack, element);
    ${numberType(complex)} g1 = gradientAt(rowPair, stack, other);
    sum += ${term(0)};
    sum += ${term(1)};
  }
  setOutput(sum);
}`,
  };
}
