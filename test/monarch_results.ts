/** Products with Monarch matrices: the cases for every backend, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {type ComplexPair, monarchMatMul} from '../src/index.js';
import {expectWithin, worstError} from './attention_results.js';

export interface MonarchCase {
  /** [k, q, p] and [l, s, r]. */
  w1: [number, number, number];
  w2: [number, number, number];
  leading?: number[];
  isComplex?: boolean;
}

export const monarchCases: MonarchCase[] = [false, true].flatMap((isComplex) => [
  {w1: [4, 4, 4], w2: [4, 4, 4], isComplex},
  {w1: [2, 6, 5], w2: [3, 7, 4], leading: [2, 3], isComplex},
  {w1: [6, 2, 1], w2: [4, 1, 3], leading: [], isComplex},
  {w1: [1, 8, 12], w2: [8, 3, 1], leading: [17], isComplex},
  {w1: [8, 192, 96], w2: [24, 16, 64], leading: [2], isComplex},
]);

/** Complex numbers; those of real cases have imaginary parts of 0. */
interface Numbers {
  shape: number[];
  real: Float64Array;
  imag: Float64Array;
}

type Argument = 'x' | 'w1' | 'w2';
export const argumentNames: Argument[] = ['x', 'w1', 'w2'];

/** The arguments, and the weights of the output in the scalar whose gradients are tested. */
export type Inputs = Record<Argument | 'weights', Numbers>;

export function makeInputs({w1, w2, leading = [5], isComplex}: MonarchCase): Inputs {
  const normal = new MPRandGauss(0, 1, 'float32', false, 4);
  const random = (shape: number[], deviation = 1): Numbers => {
    const part = (scale: number) =>
      Float64Array.from({length: tf.util.sizeFromShape(shape)}, () => Math.fround(normal.nextValue() * scale));
    return {shape, real: part(deviation), imag: part(isComplex ? deviation : 0)};
  };
  return {
    x: random([...leading, w1[0] * w1[2]]),
    // Keeps the variance of the numbers.
    w1: random(w1, 1 / Math.sqrt(w1[2])),
    w2: random(w2, 1 / Math.sqrt(w2[2])),
    weights: random([...leading, w2[0] * w2[1]]),
  };
}

function zeros(shape: number[]): Numbers {
  const size = tf.util.sizeFromShape(shape);
  return {shape, real: new Float64Array(size), imag: new Float64Array(size)};
}

/** out[o] += a[i]·b[j], or conj(a[i])·b[j]. */
function addProduct(out: Numbers, o: number, a: Numbers, i: number, b: Numbers, j: number, conjugates = false): void {
  const aImag = conjugates ? -a.imag[i] : a.imag[i];
  out.real[o] += a.real[i] * b.real[j] - aImag * b.imag[j];
  out.imag[o] += a.real[i] * b.imag[j] + aImag * b.real[j];
}

type Term = (ofOut: number, ofWeights: number, ofInput: number) => void;

/** h[κ, j] = Σ_i w1[κ, j, i]·x[κp + i]: where the three of each term lie. */
function forEachFirstTerm(batch: number, [k, q, p]: number[], visit: Term): void {
  for (let b = 0; b < batch; b++) {
    for (let kappa = 0; kappa < k; kappa++) {
      for (let j = 0; j < q; j++) {
        for (let i = 0; i < p; i++) visit((b * k + kappa) * q + j, (kappa * q + j) * p + i, (b * k + kappa) * p + i);
      }
    }
  }
}

/** y[σl + λ] = Σ_ρ w2[λ, σ, ρ]·h[ρl + λ]: the same. */
function forEachSecondTerm(batch: number, [l, s, r]: number[], visit: Term): void {
  for (let b = 0; b < batch; b++) {
    for (let lambda = 0; lambda < l; lambda++) {
      for (let sigma = 0; sigma < s; sigma++) {
        for (let rho = 0; rho < r; rho++) {
          visit((b * s + sigma) * l + lambda, (lambda * s + sigma) * r + rho, (b * r + rho) * l + lambda);
        }
      }
    }
  }
}

export function reference({x, w1, w2, weights}: Inputs): Record<'y' | Argument, Numbers> {
  const batch = tf.util.sizeFromShape(x.shape.slice(0, -1));
  const hShape = [batch, w1.shape[0] * w1.shape[1]];
  const [h, dh] = [zeros(hShape), zeros(hShape)];
  const [y, dx, dw1, dw2] = [weights, x, w1, w2].map(({shape}) => zeros(shape));
  forEachFirstTerm(batch, w1.shape, (o, w, i) => addProduct(h, o, w1, w, x, i));
  forEachSecondTerm(batch, w2.shape, (o, w, i) => {
    addProduct(y, o, w2, w, h, i);
    addProduct(dw2, w, h, i, weights, o, true);
    addProduct(dh, i, w2, w, weights, o, true);
  });
  forEachFirstTerm(batch, w1.shape, (o, w, i) => {
    addProduct(dw1, w, x, i, dh, o, true);
    addProduct(dx, i, w1, w, dh, o, true);
  });
  return {y, x: dx, w1: dw1, w2: dw2};
}

const partsOf = (value: tf.Tensor | ComplexPair) => (value instanceof tf.Tensor ? [value] : [value.real, value.imag]);

/** The real and, of complex cases, the imaginary parts of the output and of the gradients. */
async function actual(inputs: Inputs, isComplex: boolean): Promise<Record<'y' | Argument, Float32Array[]>> {
  const perArgument = isComplex ? 2 : 1;
  const tensorsOf = ({shape, real, imag}: Numbers) =>
    [real, imag].slice(0, perArgument).map((part) => tf.tensor(Float32Array.from(part), shape));
  const multiply = (...parts: tf.Tensor[]) => {
    if (!isComplex) return [monarchMatMul(parts[0], parts[1], parts[2])];
    const [x, w1, w2] = [0, 2, 4].map((i): ComplexPair => ({real: parts[i], imag: parts[i + 1]}));
    return partsOf(monarchMatMul(x, w1, w2));
  };
  const tensors = tf.tidy(() => {
    const args = argumentNames.flatMap((name) => tensorsOf(inputs[name]));
    const weights = tensorsOf(inputs.weights);
    const weighted = (...parts: tf.Tensor[]) =>
      tf.addN(multiply(...parts).map((part, i) => tf.sum(tf.mul(part, weights[i])))) as tf.Scalar;
    const outputs = multiply(...args);
    expect(outputs.map(({shape}) => shape)).toEqual(weights.map(({shape}) => shape));
    return [...outputs, ...tf.grads(weighted)(args)];
  });
  const values = await Promise.all(tensors.map((t) => t.data<'float32'>()));
  tf.dispose(tensors);
  const [y, x, w1, w2] = [0, 1, 2, 3].map((i) => values.slice(i * perArgument, (i + 1) * perArgument));
  return {y, x, w1, w2};
}

/**
 * Judged relative to the largest value that is right, as float32 rounds: once per term of each sum on the way, and a
 * weight's gradient sums over the batch besides.
 */
export async function expectMonarchRight(monarchCase: MonarchCase): Promise<void> {
  const {isComplex = false, w1, w2} = monarchCase;
  const inputs = makeInputs(monarchCase);
  const right = reference(inputs);
  const given = await actual(inputs, isComplex);
  const batch = tf.util.sizeFromShape(inputs.x.shape.slice(0, -1));
  const roundings = w1[2] + w2[2] + w1[1] + w2[1] + batch;
  for (const name of ['y', ...argumentNames] as const) {
    const {real, imag} = right[name];
    given[name].forEach((values, i) => {
      const part = [real, imag][i];
      const allowed = roundings * 2 ** -24 * worstError(part, new Float64Array(part.length));
      expectWithin(`${name}, ${i === 0 ? 'real' : 'imaginary'} part`, values, part, allowed);
    });
  }
}
