/** Products with butterfly matrices, and their gradients, as plain loops in float64. */
import type {ButterflyMultiplyAttrs} from '../../src/kernel_names.js';
import {type ButterflySizes, type FactorStep, factorSteps} from '../butterfly_sizes.js';

/** Real numbers, or complex ones where there is an imaginary part. */
export interface Numbers {
  real: ArrayLike<number>;
  imag?: ArrayLike<number>;
}

/** The same, to write to. */
interface Values extends Numbers {
  real: Float64Array;
  imag?: Float64Array;
}

export interface ButterflyProblem {
  sizes: ButterflySizes;
  attrs: ButterflyMultiplyAttrs;
  x: Numbers;
  twiddle: Numbers;
}

/** y [batch, output size]. */
export function butterflyForward(problem: ButterflyProblem): Values {
  const {sizes, attrs, x} = problem;
  const y = zeros(sizes, sizes.batch * sizes.outputSize);
  forEachStack(sizes, (row, stack) => {
    const state = loadRow(problem, x, sizes.inputSize, row, stack, attrs.transpose);
    for (const step of factorSteps(sizes, attrs)) applyFactor(problem, state, stack, step, false);
    addRow(problem, state, y, sizes.outputSize, row, stack, !attrs.transpose);
  });
  return y;
}

/** dx shaped as x, and dTwiddle shaped as twiddle, of the gradient dy [batch, output size]. */
export function butterflyBackward(problem: ButterflyProblem, dy: Numbers): {dx: Values; dTwiddle: Values} {
  const {sizes, attrs, x, twiddle} = problem;
  const dx = zeros(sizes, sizes.batch * sizes.inputSize);
  const dTwiddle = zeros(sizes, twiddle.real.length);
  const steps = factorSteps(sizes, attrs);
  forEachStack(sizes, (row, stack) => {
    const state = loadRow(problem, x, sizes.inputSize, row, stack, attrs.transpose);
    const inputs = steps.map((step) => {
      const input = {real: state.real.slice(), imag: state.imag?.slice()};
      applyFactor(problem, state, stack, step, false);
      return input;
    });
    const gradient = loadRow(problem, dy, sizes.outputSize, row, stack, !attrs.transpose);
    for (let i = steps.length - 1; i >= 0; i--) {
      addFactorGradient(problem, gradient, inputs[i], dTwiddle, stack, steps[i]);
      applyFactor(problem, gradient, stack, steps[i], true);
    }
    addRow(problem, gradient, dx, sizes.inputSize, row, stack, attrs.transpose);
  });
  return {dx, dTwiddle};
}

function zeros({complex}: ButterflySizes, length: number): Values {
  return {real: new Float64Array(length), ...(complex && {imag: new Float64Array(length)})};
}

function forEachStack({batch, stacks}: ButterflySizes, body: (row: number, stack: number) => void): void {
  for (let row = 0; row < batch; row++) {
    for (let stack = 0; stack < stacks; stack++) body(row, stack);
  }
}

/** n elements of a row for one stack: its own part of the row, or what all stacks share; zeros beyond the row. */
function loadRow(
  {sizes}: ButterflyProblem,
  from: Numbers,
  width: number,
  row: number,
  stack: number,
  isSplit: boolean,
): Values {
  const state = zeros(sizes, sizes.n);
  const first = isSplit ? stack * sizes.n : 0;
  for (let i = 0; i < Math.min(sizes.n, width - first); i++) {
    state.real[i] = from.real[row * width + first + i];
    if (state.imag && from.imag) state.imag[i] = from.imag[row * width + first + i];
  }
  return state;
}

function addRow(
  {sizes}: ButterflyProblem,
  state: Values,
  to: Values,
  width: number,
  row: number,
  stack: number,
  isSplit: boolean,
): void {
  const first = isSplit ? stack * sizes.n : 0;
  for (let i = 0; i < Math.min(sizes.n, width - first); i++) {
    to.real[row * width + first + i] += state.real[i];
    if (state.imag && to.imag) to.imag[row * width + first + i] += state.imag[i];
  }
}

/** The elements of pair t, and where its 2 × 2 matrix begins. */
function pairOf({sizes}: ButterflyProblem, stack: number, {factor, logStride}: FactorStep, t: number) {
  const stride = 2 ** logStride;
  const first = 2 * stride * Math.floor(t / stride) + (t % stride);
  const {blocks, factors, n} = sizes;
  return {elements: [first, first + stride], matrix: 4 * ((stack * blocks * factors + factor) * (n / 2) + t)};
}

/** Multiplies all pairs by their matrices, or by what carries gradients back: the conjugate transposes. */
function applyFactor(
  problem: ButterflyProblem,
  state: Values,
  stack: number,
  step: FactorStep,
  isBackward: boolean,
): void {
  const {sizes, attrs, twiddle} = problem;
  const isTransposed = attrs.transpose !== isBackward;
  const sign = attrs.conjugate !== isBackward ? -1 : 1;
  for (let t = 0; t < sizes.n / 2; t++) {
    const {elements, matrix} = pairOf(problem, stack, step, t);
    const reals = elements.map((i) => state.real[i]);
    const imags = elements.map((i) => state.imag?.[i] ?? 0);
    elements.forEach((element, a) => {
      let [real, imag] = [0, 0];
      for (let b = 0; b < 2; b++) {
        const entry = matrix + (isTransposed ? 2 * b + a : 2 * a + b);
        const [entryReal, entryImag] = [twiddle.real[entry], sign * (twiddle.imag?.[entry] ?? 0)];
        real += entryReal * reals[b] - entryImag * imags[b];
        imag += entryReal * imags[b] + entryImag * reals[b];
      }
      state.real[element] = real;
      if (state.imag) state.imag[element] = imag;
    });
  }
}

/** dT[a][b] = Σ g[i_a]·conj(x[i_b]) of the matrix that was applied, added to that of the matrix that it came from. */
function addFactorGradient(
  problem: ButterflyProblem,
  gradient: Values,
  input: Numbers,
  dTwiddle: Values,
  stack: number,
  step: FactorStep,
): void {
  const {sizes, attrs} = problem;
  const sign = attrs.conjugate ? -1 : 1;
  for (let t = 0; t < sizes.n / 2; t++) {
    const {elements, matrix} = pairOf(problem, stack, step, t);
    for (let a = 0; a < 2; a++) {
      const [gReal, gImag] = [gradient.real[elements[a]], gradient.imag?.[elements[a]] ?? 0];
      for (let b = 0; b < 2; b++) {
        const [xReal, xImag] = [input.real[elements[b]], input.imag?.[elements[b]] ?? 0];
        const entry = matrix + (attrs.transpose ? 2 * b + a : 2 * a + b);
        dTwiddle.real[entry] += gReal * xReal + gImag * xImag;
        if (dTwiddle.imag) dTwiddle.imag[entry] += sign * (gImag * xReal - gReal * xImag);
      }
    }
  }
}
