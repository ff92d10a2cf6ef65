/**
 * WGSL of what factors of butterfly matrices do: which matrices they have to do with, and how a factor is applied to the
 * elements that an invocation holds.
 */
import type {StageStep} from './butterfly_stages.js';
import {lines, range} from './tile_wgsl.js';

/** Real numbers are f32, complex ones pairs. */
export const numberType = (complex: boolean) => (complex ? 'vec2f' : 'f32');

export const partNames = (complex: boolean, name: string) => (complex ? [name, `${name}Imag`] : [name]);

export const zeroBitFunction = `
// A number with a bit 0 put in: the first element of pair number t, where the bit is log2 of the stride.
fn withZeroBit(number: u32, bit: u32) -> u32 {
  let mask = (1u << bit) - 1u;
  return ((number & ~mask) << 1u) | (number & mask);
}`;

export interface MatrixVariant {
  complex: boolean;
  transposed: boolean;
  conjugated: boolean;
}

/** The variable with an element's numbers in a vector of rows, or with their imaginary part. */
export const held = (element: number, vector: number, part = 0) => `x${element}${['', 'Imag'][part]}_${vector}`;

/** The pairs of held elements whose numbers differ in one bit. */
function pairsOf(elementBits: number, bit: number): {first: number; second: number}[] {
  const firsts = range(2 ** elementBits).filter((element) => ((element >> bit) & 1) === 0);
  return firsts.map((first) => ({first, second: first + 2 ** bit}));
}

/** A factor, and what an invocation holds: 2^elementBits elements, and of each some vectors, with the numbers of a few rows. */
export interface FactorCode extends MatrixVariant {
  elementBits: number;
  vectors: number;
  step: StageStep;
  /** Which bit of the number of a held element tells its side. */
  heldBit: number;
  /** Bit of an element's number within n that tells its side: log2 of the factor's stride. */
  logStride: number;
  /** Offsets, within n, of the held elements from the first, `firstElement`. */
  offsets: number[];
  /** log2 of the pairs of a factor. */
  pairBits: number;
  /** Factors of a stack. */
  factors: number;
}

/** A number without one of its bits, which is the number of the pair of an element. */
const withoutBit = (number: number, bit: number) => ((number >> (bit + 1)) << bit) | (number & (2 ** bit - 1));

const entriesOf = (complex: boolean, {factor}: StageStep, first: number) =>
  partNames(complex, `entries${factor}_${first}`);

/** Loads the matrices of a factor that an invocation needs. */
export function loadMatrices(code: FactorCode): string {
  const {complex, conjugated, step, heldBit, logStride, offsets} = code;
  const low = 2 ** logStride - 1;
  const pairs = pairsOf(code.elementBits, heldBit);
  const matrix = `matrix${step.factor}`;
  const load = ({first}: {first: number}) =>
    entriesOf(complex, step, first)
      .map((entries, part) => {
        const place = `${matrix} + ${withoutBit(offsets[first], logStride)}u`;
        return `let ${entries} = ${conjugated && part === 1 ? '-' : ''}${partNames(complex, 'twiddle')[part]}[${place}];`;
      })
      .join(' ');
  return `let ${matrix} = ((stack * ${code.factors}u + ${step.factor}u) << ${code.pairBits}u) +
    (((firstElement >> 1u) & ${~low >>> 0}u) | (firstElement & ${low}u));
  ${lines(pairs.length, (i) => load(pairs[i]))}`;
}

/** Multiplies the pairs of held elements by the matrices that {@link loadMatrices} has loaded. */
export function applyFactor({complex, transposed, step, heldBit, elementBits, vectors}: FactorCode): string {
  const rows = transposed ? ['xz', 'yw'] : ['xy', 'zw'];
  const products = pairsOf(elementBits, heldBit).flatMap(({first, second}) =>
    range(vectors).map((vector) => {
      const [entries, entriesImag] = entriesOf(complex, step, first);
      const [x0, x1] = [held(first, vector), held(second, vector)];
      const [x0Imag, x1Imag] = [held(first, vector, 1), held(second, vector, 1)];
      const dot = (matrix: string, [a, b]: string, y0: string, y1: string) =>
        `${matrix}.${a} * ${y0} + ${matrix}.${b} * ${y1}`;
      if (!complex) {
        return `{ let y = ${dot(entries, rows[0], x0, x1)}; ${x1} = ${dot(entries, rows[1], x0, x1)}; ${x0} = y; }`;
      }
      const real = (row: string) => `${dot(entries, row, x0, x1)} - (${dot(entriesImag, row, x0Imag, x1Imag)})`;
      const imag = (row: string) => `${dot(entries, row, x0Imag, x1Imag)} + ${dot(entriesImag, row, x0, x1)}`;
      return `{
    let y0 = ${real(rows[0])};
    let y0Imag = ${imag(rows[0])};
    let y1 = ${real(rows[1])};
    let y1Imag = ${imag(rows[1])};
    ${x0} = y0; ${x0Imag} = y0Imag; ${x1} = y1; ${x1Imag} = y1Imag;
  }`;
    }),
  );
  return products.join('\n');
}
