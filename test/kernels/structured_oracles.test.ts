/**
 * What butterfly and Monarch kernels are judged by, judged itself: the butterfly loops by the definition, and both
 * gradients by finite differences. A product is linear in x and in each single weight, so that differences are exact.
 */
import {butterflyBackward, butterflyForward, type Numbers} from '../../kernels/cpu/butterfly_products.js';
import {expectWithin} from '../attention_results.js';
import {argumentNames, type MonarchCase, makeInputs, reference} from '../monarch_results.js';

interface OracleCase {
  stacks: number;
  blocks: number;
  inputSize: number;
  outputSize: number;
  complex: boolean;
  increasingStride: boolean;
  transpose: boolean;
  conjugate: boolean;
}

const flags = [false, true];
const oracleCases: OracleCase[] = flags.flatMap((complex) =>
  flags.flatMap((increasingStride) =>
    flags.flatMap((transpose): OracleCase[] => [
      {stacks: 1, blocks: 1, inputSize: 8, outputSize: 8, complex, increasingStride, transpose, conjugate: false},
      {
        stacks: 2,
        blocks: 3,
        ...(transpose ? {inputSize: 15, outputSize: 7} : {inputSize: 7, outputSize: 15}),
        complex,
        increasingStride,
        transpose,
        conjugate: complex,
      },
    ]),
  ),
);

const BATCH = 2;
const N = 8;
const FACTORS = 3;

type ComplexNumber = [real: number, imag: number];

const add = ([a, b]: ComplexNumber, [c, d]: ComplexNumber): ComplexNumber => [a + c, b + d];
const multiply = ([a, b]: ComplexNumber, [c, d]: ComplexNumber): ComplexNumber => [a * c - b * d, a * d + b * c];

/** Of each number the same every time, spread over −1 to 1. */
function someValues(count: number, start: number): Float64Array {
  return Float64Array.from({length: count}, (_, i) => Math.sin(1 + 12.9898 * (i + start)));
}

function makeProblem({stacks, blocks, inputSize, outputSize, complex, ...attrs}: OracleCase) {
  const numbers = (count: number, start: number): Required<Numbers> & {real: Float64Array; imag: Float64Array} => ({
    real: someValues(count, start),
    imag: complex ? someValues(count, start + 7000) : new Float64Array(count),
  });
  const sizes = {batch: BATCH, stacks, blocks, n: N, factors: FACTORS, inputSize, outputSize, complex};
  const twiddle = numbers(stacks * blocks * FACTORS * (N / 2) * 4, 1000);
  const dy = numbers(BATCH * outputSize, 2000);
  const x = numbers(BATCH * inputSize, 3000);
  return {problem: {sizes, attrs: {...attrs, outputSize}, x, twiddle}, dy};
}

type OracleProblem = ReturnType<typeof makeProblem>['problem'];

/** The matrix [n, n] of one stack, from the definition: factor by factor, pair by pair. */
function stackMatrix({sizes, attrs, twiddle}: OracleProblem, stack: number): ComplexNumber[][] {
  let matrix = Array.from({length: N}, (_, i) =>
    Array.from({length: N}, (_, j): ComplexNumber => [Number(i === j), 0]),
  );
  for (let block = 0; block < sizes.blocks; block++) {
    for (let factor = 0; factor < FACTORS; factor++) {
      const isIncreasing = attrs.increasingStride !== (block % 2 === 1);
      const stride = 2 ** (isIncreasing ? factor : FACTORS - 1 - factor);
      const next = matrix.map((row) => [...row]);
      for (let t = 0; t < N / 2; t++) {
        const first = 2 * stride * Math.floor(t / stride) + (t % stride);
        const rows = [matrix[first], matrix[first + stride]];
        for (const a of [0, 1]) {
          next[first + a * stride] = rows[0].map((_, column) => {
            const terms = [0, 1].map((b) => {
              const entry = ((((stack * sizes.blocks + block) * FACTORS + factor) * (N / 2) + t) * 2 + a) * 2 + b;
              const imag = attrs.conjugate ? -twiddle.imag[entry] : twiddle.imag[entry];
              return multiply([twiddle.real[entry], imag], rows[b][column]);
            });
            return add(terms[0], terms[1]);
          });
        }
      }
      matrix = next;
    }
  }
  return matrix;
}

/** y by the definition: each stack's matrix, or its transpose, on its part of x, which is continued with zeros. */
function definedProduct(problem: OracleProblem): {real: Float64Array; imag: Float64Array} {
  const {sizes, attrs, x} = problem;
  const {stacks, inputSize, outputSize} = sizes;
  const size = BATCH * outputSize;
  const y = {real: new Float64Array(size), imag: new Float64Array(size)};
  for (let stack = 0; stack < stacks; stack++) {
    const matrix = stackMatrix(problem, stack);
    const [ofInput, ofOutput] = attrs.transpose ? [stack * N, 0] : [0, stack * N];
    for (let row = 0; row < BATCH; row++) {
      for (let o = 0; o < Math.min(N, outputSize - ofOutput); o++) {
        for (let i = 0; i < Math.min(N, inputSize - ofInput); i++) {
          const [from, to] = [row * inputSize + ofInput + i, row * outputSize + ofOutput + o];
          const product = multiply(attrs.transpose ? matrix[i][o] : matrix[o][i], [x.real[from], x.imag[from]]);
          [y.real[to], y.imag[to]] = add([y.real[to], y.imag[to]], product);
        }
      }
    }
  }
  return y;
}

/** Σ over both parts of y·weights. */
function weightedSum(y: Numbers, weights: Required<Numbers>): number {
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((sum, value, i) => sum + value * b[i], 0);
  return dot(y.real, weights.real) + (y.imag ? dot(y.imag, weights.imag) : 0);
}

/** Changes each number by 1 in turn, and expects the loss to change by its gradient. */
function expectGradient(name: string, values: Float64Array, gradient: ArrayLike<number>, loss: () => number): void {
  const before = loss();
  values.forEach((value, i) => {
    values[i] = value + 1;
    expect(loss() - before)
      .withContext(`${name}[${i}]`)
      .toBeCloseTo(gradient[i], 10);
    values[i] = value;
  });
}

describe('The loops that butterfly kernels are judged by', () => {
  for (const oracleCase of oracleCases) {
    it(`follow the definition: ${JSON.stringify(oracleCase)}`, () => {
      const {problem} = makeProblem(oracleCase);
      const [y, defined] = [butterflyForward(problem), definedProduct(problem)];
      expect(y.real.length).toBe(defined.real.length);
      expectWithin('real part', y.real, defined.real, 1e-12);
      if (y.imag) expectWithin('imaginary part', y.imag, defined.imag, 1e-12);
    });

    it(`have the gradients of finite differences: ${JSON.stringify(oracleCase)}`, () => {
      const {problem, dy} = makeProblem(oracleCase);
      const {dx, dTwiddle} = butterflyBackward(problem, dy);
      const loss = () => weightedSum(butterflyForward(problem), dy);
      expectGradient('x', problem.x.real, dx.real, loss);
      expectGradient('twiddle', problem.twiddle.real, dTwiddle.real, loss);
      if (!dx.imag || !dTwiddle.imag) return;
      expectGradient('imaginary x', problem.x.imag, dx.imag, loss);
      expectGradient('imaginary twiddle', problem.twiddle.imag, dTwiddle.imag, loss);
    });
  }
});

describe('The loops that Monarch kernels are judged by', () => {
  for (const isComplex of flags) {
    const monarchCase: MonarchCase = {w1: [2, 6, 5], w2: [3, 7, 4], leading: [2], isComplex};

    it(`have the gradients of finite differences: ${JSON.stringify(monarchCase)}`, () => {
      const inputs = makeInputs(monarchCase);
      const gradients = reference(inputs);
      const loss = () => weightedSum(reference(inputs).y, inputs.weights);
      for (const name of argumentNames) {
        expectGradient(name, inputs[name].real, gradients[name].real, loss);
        if (isComplex) expectGradient(`imaginary ${name}`, inputs[name].imag, gradients[name].imag, loss);
      }
    });
  }
});
