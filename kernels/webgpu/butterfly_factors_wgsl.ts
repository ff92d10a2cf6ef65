/**
 * WGSL of what factors of butterfly matrices do: which elements and matrices they have to do with, and how one or two of
 * them are applied to what a workgroup holds.
 */
import {lines, range} from './tile_wgsl.js';

/** Real numbers are f32, complex ones pairs. */
export const numberType = (complex: boolean) => (complex ? 'vec2f' : 'f32');

export const partNames = (complex: boolean, name: string) => (complex ? [name, `${name}Imag`] : [name]);

/** Functions of a factor's number among those of its stack; `params` has logN, factors and increasingStride. */
export const factorFunctions = `
fn logStrideOf(factor: u32) -> u32 {
  let position = factor % params.logN;
  let isIncreasing = (params.increasingStride == 1u) != (factor / params.logN % 2u == 1u);
  return select(params.logN - 1u - position, position, isIncreasing);
}

// A number with a bit 0 put in: the first element of pair number t, where the bit is log2 of the stride.
fn withZeroBit(number: u32, bit: u32) -> u32 {
  let mask = (1u << bit) - 1u;
  return ((number & ~mask) << 1u) | (number & mask);
}

// The place in the twiddle of the matrix of the pair whose first element this is.
fn matrixOf(stack: u32, factor: u32, first: u32, logStride: u32) -> u32 {
  let mask = (1u << logStride) - 1u;
  let t = ((first >> 1u) & ~mask) | (first & mask);
  return ((stack * params.factors + factor) << (params.logN - 1u)) + t;
}`;

export interface MatrixVariant {
  complex: boolean;
  transposed: boolean;
  conjugated: boolean;
}

/** A function that multiplies a pair of numbers by the matrix with these entries. */
export function pairFunction(name: string, {complex, transposed, conjugated}: MatrixVariant): string {
  const rowsOf = (entries: string) =>
    transposed ? [`${entries}.xz`, `${entries}.yw`] : [`${entries}.xy`, `${entries}.zw`];
  const reals = rowsOf('reals');
  if (!complex) {
    return `
fn ${name}(reals: vec4f, x0: f32, x1: f32) -> vec2f {
  let x = vec2f(x0, x1);
  return vec2f(${reals.map((row) => `dot(${row}, x)`).join(', ')});
}`;
  }
  const imags = rowsOf('imags');
  const products = reals.map(
    (real, i) =>
      `\n    vec2f(dot(${real}, xReals) - dot(${imags[i]}, xImags), dot(${real}, xImags) + dot(${imags[i]}, xReals))`,
  );
  return `
fn ${name}(reals: vec4f, givenImags: vec4f, x0: vec2f, x1: vec2f) -> mat2x2f {
  let imags = ${conjugated ? '-' : ''}givenImags;
  let xReals = vec2f(x0.x, x1.x);
  let xImags = vec2f(x0.y, x1.y);
  return mat2x2f(${products.join(',')});
}`;
}

export interface FactorsCode {
  complex: boolean;
  threads: number;
  /** The function that multiplies a pair. */
  multiply: string;
  /** The buffer that gets the input of each factor, if that is wanted. */
  saves?: string;
}

/**
 * Applies `factor0`, or it and `factor1`, whose strides differ, to all elements of the tile. An invocation takes groups of
 * the elements that the factors tie together: pairs, or four that form two pairs in either factor, so that the numbers
 * between the two stay in registers. Bit j of an element's number in its group tells its side in the pairs of factor j.
 */
export function applyFactors(code: FactorsCode, count: 1 | 2): string {
  const elements = 2 ** count;
  const pairs = range(count).flatMap((factor) => pairsOf(factor, elements));
  const lowest =
    count === 1 ? 'withZeroBit(group, bit0)' : 'withZeroBit(withZeroBit(group, min(bit0, bit1)), max(bit0, bit1))';
  const offset = (element: number, bit: string) =>
    range(count)
      .map((factor) => `(${(element >> factor) & 1}u << ${bit}${factor})`)
      .join(' + ');
  return `
${lines(count, (factor) => `let bit${factor} = logStride${factor} - params.lowBit + params.laneBits;`)}
let groups = 1u << (tileRowBits - ${count}u);
// Invocations side by side take groups side by side; those that are left take further rows.
let groupsAcross = min(groups, ${code.threads}u);
let rowsAcross = ${code.threads}u / groupsAcross;
for (var group = localIndex % groupsAcross; group < groups; group += groupsAcross) {
  let lowestPlace = ${lowest};
  let lowestElement = elementOf(base, lowestPlace);
  ${lines(elements, (i) => `let place${i} = lowestPlace + ${offset(i, 'bit')};`)}
  ${lines(elements, (i) => `let element${i} = lowestElement + ${offset(i, 'logStride')};`)}
  ${lines(pairs.length, (i) => loadMatrix(code, pairs[i]))}
  for (var tileRow = localIndex / groupsAcross; tileRow < (1u << params.rowBits); tileRow += rowsAcross) {
    let row = firstRow + tileRow;
    if (row >= params.rows) { break; }
    let start = tileRow << tileRowBits;
    ${lines(elements, (i) => `var x${i} = tile[start + place${i}];`)}
    ${lines(count, (factor) => applyFactor(code, factor, elements))}
    ${lines(elements, (i) => `tile[start + place${i}] = x${i};`)}
  }
}`;
}

/** Two elements of a group that a factor ties together, and what tells their matrix from the group's others. */
interface Pair {
  factor: number;
  first: number;
  second: number;
  name: string;
}

function pairsOf(factor: number, elements: number): Pair[] {
  const firsts = range(elements).filter((element) => ((element >> factor) & 1) === 0);
  return firsts.map((first) => ({factor, first, second: first + 2 ** factor, name: `${factor}${first}`}));
}

const entriesOf = (complex: boolean, {name}: Pair) => partNames(complex, `entries${name}`);

function loadMatrix({complex}: FactorsCode, pair: Pair): string {
  const {factor, first, name} = pair;
  const twiddles = partNames(complex, 'twiddle');
  const loads = entriesOf(complex, pair).map((entries, part) => `let ${entries} = ${twiddles[part]}[matrix${name}];`);
  return `let matrix${name} = matrixOf(stack, factor${factor}, element${first}, logStride${factor});
  ${loads.join(' ')}`;
}

/** Takes the numbers of a group through a factor, after saving them. */
function applyFactor({complex, multiply, saves}: FactorsCode, factor: number, elements: number): string {
  const save = `let saved${factor} = ((factor${factor} * params.rows + row) * params.stacks + stack) << params.logN;
    ${lines(elements, (i) => `${saves}[saved${factor} + element${i}] = x${i};`)}`;
  const products = pairsOf(factor, elements).map((pair) => {
    const {first, second, name} = pair;
    return `
    let y${name} = ${multiply}(${entriesOf(complex, pair).join(', ')}, x${first}, x${second});
    x${first} = y${name}[0];
    x${second} = y${name}[1];`;
  });
  return (saves ? save : '') + products.join('');
}
