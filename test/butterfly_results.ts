/** Butterfly products: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {butterflyBackward, butterflyForward, type Numbers} from '../kernels/cpu/butterfly_products.js';
import {type ButterflyMultiplyOptions, butterflyMultiply, type ComplexPair} from '../src/index.js';
import {expectWithin, worstError} from './attention_results.js';

declare const FULL_GRID: boolean;

export interface ButterflyCase extends ButterflyMultiplyOptions {
  n: number;
  inputSize: number;
  leading?: number[];
  stacks?: number;
  blocks?: number;
  isComplex?: boolean;
}

const everyOption = (sizes: {n: number; inputSize: number; outputSize?: number}, counts: [number, number][]) =>
  counts.flatMap(([stacks, blocks]) =>
    [false, true].flatMap((isComplex) =>
      [true, false].map((increasingStride): ButterflyCase => ({...sizes, stacks, blocks, isComplex, increasingStride})),
    ),
  );

const counts = [1, 2, 3].flatMap((stacks) => [1, 2, 3].map((blocks): [number, number] => [stacks, blocks]));

export const butterflyCases: ButterflyCase[] = [
  ...everyOption({n: 8, inputSize: 7, outputSize: 15}, [[2, 1]]),
  ...everyOption({n: 16, inputSize: 15, outputSize: 7}, [[1, 2]]),
  ...everyOption({n: 2, inputSize: 2}, [[1, 1]]),
  ...everyOption({n: 16, inputSize: 16}, [[3, 3]]),
  ...[false, true].flatMap((isComplex): ButterflyCase[] => [
    {n: 16, inputSize: 27, outputSize: 13, stacks: 2, blocks: 2, transpose: true, isComplex},
    {n: 16, inputSize: 13, outputSize: 27, stacks: 2, blocks: 2, conjugate: true, isComplex},
    {n: 16, inputSize: 16, blocks: 3, transpose: true, conjugate: true, increasingStride: false, isComplex},
    {n: 8, inputSize: 5, leading: [2, 3], isComplex},
    {n: 8, inputSize: 5, leading: [], isComplex},
    {n: 512, inputSize: 512, leading: [9], isComplex},
    {n: 1024, inputSize: 1000, outputSize: 1500, stacks: 2, leading: [2], isComplex},
  ]),
  {n: 4096, inputSize: 4096, leading: [2], increasingStride: false},
  {n: 8192, inputSize: 8192, leading: [2]},
  ...(FULL_GRID
    ? [
        ...[2, 4, 8, 32, 128, 256, 2048, 4096].flatMap((n) => everyOption({n, inputSize: n}, [[1, 1]])),
        ...everyOption({n: 16, inputSize: 12, outputSize: 14}, counts),
        {n: 8192, inputSize: 8192, leading: [2], blocks: 2, increasingStride: false, transpose: true, isComplex: true},
        ...everyOption({n: 16384, inputSize: 16000}, [[1, 2]]),
      ]
    : []),
];

/** The real and the imaginary part of an argument, on the host. */
interface Argument {
  shape: number[];
  parts: Float32Array[];
}

interface Inputs {
  x: Argument;
  twiddle: Argument;
  /** Weights of the output in the scalar whose gradient is tested. */
  weights: Argument;
}

function makeInputs(butterflyCase: ButterflyCase): Inputs {
  const {n, inputSize, leading = [5], stacks = 1, blocks = 1, transpose, isComplex} = butterflyCase;
  const {outputSize = transpose ? n : stacks * n} = butterflyCase;
  const normal = new MPRandGauss(0, 1, 'float32', false, 3);
  const random = (shape: number[], deviation = 1): Argument => {
    const part = () => Float32Array.from({length: tf.util.sizeFromShape(shape)}, () => normal.nextValue() * deviation);
    return {shape, parts: isComplex ? [part(), part()] : [part()]};
  };
  return {
    x: random([...leading, inputSize]),
    // Keeps the variance of the numbers from factor to factor.
    twiddle: random([stacks, blocks, Math.log2(n), n / 2, 2, 2], isComplex ? 0.5 : Math.SQRT1_2),
    weights: random([...leading, outputSize]),
  };
}

function reference(butterflyCase: ButterflyCase, {x, twiddle, weights}: Inputs) {
  const {n, stacks = 1, blocks = 1, isComplex = false, inputSize} = butterflyCase;
  const {increasingStride = true, transpose = false, conjugate = false} = butterflyCase;
  const outputSize = weights.shape[weights.shape.length - 1];
  const batch = x.parts[0].length / inputSize;
  const sizes = {batch, stacks, blocks, n, factors: Math.log2(n), inputSize, outputSize, complex: isComplex};
  const attrs = {increasingStride, outputSize, transpose, conjugate};
  const numbers = ({parts: [real, imag]}: Argument): Numbers => ({real, ...(imag && {imag})});
  const problem = {sizes, attrs, x: numbers(x), twiddle: numbers(twiddle)};
  const {dx, dTwiddle} = butterflyBackward(problem, numbers(weights));
  const parts = ({real, imag}: Numbers) => (imag ? [real, imag] : [real]);
  return {y: parts(butterflyForward(problem)), dx: parts(dx), dTwiddle: parts(dTwiddle)};
}

async function actual(options: ButterflyCase, {x, twiddle, weights}: Inputs) {
  const multiply = (...parts: tf.Tensor[]) =>
    parts.length === 2
      ? [butterflyMultiply(parts[0], parts[1], options)]
      : partsOf(butterflyMultiply(pairOf(parts.slice(0, 2)), pairOf(parts.slice(2)), options));
  const tensors = tf.tidy(() => {
    const inputs = [x, twiddle].flatMap(({parts, shape}) => parts.map((values) => tf.tensor(values, shape)));
    const weighted = (...parts: tf.Tensor[]) =>
      multiply(...parts)
        .map((part, i) => tf.sum(tf.mul(part, tf.tensor(weights.parts[i], weights.shape))))
        .reduce((sum, term) => tf.add(sum, term)) as tf.Scalar;
    return [...multiply(...inputs), ...tf.grads(weighted)(inputs)];
  });
  const shapes = tensors.map(({shape}) => shape);
  const values = await Promise.all(tensors.map((t) => t.data<'float32'>()));
  tf.dispose(tensors);
  const count = x.parts.length;
  return {
    shapes,
    y: values.slice(0, count),
    dx: values.slice(count, 2 * count),
    dTwiddle: values.slice(2 * count),
  };
}

const pairOf = ([real, imag]: tf.Tensor[]): ComplexPair => ({real, imag});
const partsOf = ({real, imag}: ComplexPair) => [real, imag];

/**
 * Judged relative to the largest value that is right, as float32 rounds: a sum of two products rounds by less than three
 * units, once per factor, twice as often backward, and a twiddle's gradient sums over the batch besides.
 */
export async function expectButterflyRight(butterflyCase: ButterflyCase): Promise<void> {
  const inputs = makeInputs(butterflyCase);
  const right = reference(butterflyCase, inputs);
  const given = await actual(butterflyCase, inputs);
  expect(given.shapes[0]).toEqual(inputs.weights.shape);
  const {n, blocks = 1} = butterflyCase;
  const roundings = 3 * blocks * Math.log2(n) + inputs.x.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  for (const [name, share] of [
    ['y', 1],
    ['dx', 2],
    ['dTwiddle', 2],
  ] as const) {
    right[name].forEach((values, part) => {
      const largest = worstError(values, new Float64Array(values.length));
      const allowed = share * roundings * 2 ** -24 * largest;
      expectWithin(`${name}, ${part === 0 ? 'real' : 'imaginary'} part`, given[name][part], values, allowed);
    });
  }
}
