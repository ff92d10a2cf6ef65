/** Discrete cosine and sine transforms. */
import {toStage, withDiagonal} from './butterfly_block.js';
import {type FastTransform, transposeTransform} from './fast_transform.js';
import {bitReversal, fourierBlock} from './fourier.js';
import {assertPowerOfTwo} from './transform_arguments.js';

/** The types that differ in where the samples lie; 2 and 3 are inverse to each other, 4 to itself, up to a factor. */
export type TrigonometricType = 2 | 3 | 4;

export interface TrigonometricOptions {
  /** Whether the rows of the matrix are divided by their norms, which makes it orthogonal. Default false. */
  orthonormal?: boolean;
}

/**
 * The discrete cosine transform, scaled as in SciPy and `tf.signal.dct` of TensorFlow:
 * - type 2: y[k] = 2·Σ_j x[j]·cos(π·k(2j + 1) / 2n),
 * - type 3: y[k] = x[0] + 2·Σ_{j ≥ 1} x[j]·cos(π·j(2k + 1) / 2n),
 * - type 4: y[k] = 2·Σ_j x[j]·cos(π·(2j + 1)(2k + 1) / 4n).
 *
 * It is the real part of one complex butterfly of n elements, and a gather.
 *
 * Source of the order of the samples: Makhoul, "A Fast Cosine Transform in One and Two Dimensions" (1980).
 *
 * ```js
 * const y = tf.applyTransform(tf.randomNormal([3, 16]), tf.transforms.dct(16, 2, {orthonormal: true}));
 * console.log(y.shape); // [3, 16]
 * ```
 *
 * @param n elements, a power of two from 2 on.
 * @param type 2 (the default), 3 or 4.
 * @param options see {@link TrigonometricOptions}.
 * @throws Error if n is not a power of two from 2 on, or there is no such type.
 */
export function dct(n: number, type: TrigonometricType = 2, options: TrigonometricOptions = {}): FastTransform<'real'> {
  return ofType('dct', n, type, options);
}

/**
 * The discrete sine transform, scaled as in SciPy:
 * - type 2: y[k] = 2·Σ_j x[j]·sin(π·(k + 1)(2j + 1) / 2n),
 * - type 3: y[k] = (−1)ᵏ·x[n − 1] + 2·Σ_{j < n − 1} x[j]·sin(π·(j + 1)(2k + 1) / 2n),
 * - type 4: y[k] = 2·Σ_j x[j]·sin(π·(2j + 1)(2k + 1) / 4n).
 *
 * It is the real part of one complex butterfly of n elements, and a gather.
 *
 * ```js
 * const y = tf.applyTransform(tf.randomNormal([3, 16]), tf.transforms.dst(16, 4));
 * console.log(y.shape); // [3, 16]
 * ```
 *
 * @param n elements, a power of two from 2 on.
 * @param type 2 (the default), 3 or 4.
 * @param options see {@link TrigonometricOptions}.
 * @throws Error if n is not a power of two from 2 on, or there is no such type.
 */
export function dst(n: number, type: TrigonometricType = 2, options: TrigonometricOptions = {}): FastTransform<'real'> {
  return ofType('dst', n, type, options);
}

function ofType(
  name: 'dct' | 'dst',
  n: number,
  type: TrigonometricType,
  {orthonormal = false}: TrigonometricOptions,
): FastTransform<'real'> {
  assertPowerOfTwo(name, 'n', n);
  if (![2, 3, 4].includes(type)) throw new Error(`${name}: type must be 2, 3 or 4, got ${type}.`);
  const scale = orthonormal ? Math.sqrt(2 / n) : 2;
  const isSine = name === 'dst';
  if (type === 4) return trigonometric(n, {isSine, shift: 0.5, outputScale: () => scale});
  // The row whose cosines or sines are all ±1 has a larger norm. In type 3 it is a column, and always divided.
  const alternating = isSine ? n - 1 : 0;
  const divisor = orthonormal ? Math.SQRT2 : type - 1;
  const outputScale = (k: number) => (k === alternating ? scale / divisor : scale);
  const ofType2 = trigonometric(n, {isSine, shift: isSine ? 1 : 0, outputScale});
  return type === 2 ? ofType2 : transposeTransform(ofType2);
}

export interface TrigonometricTerms {
  isSine: boolean;
  /** What is added to k. */
  shift: number;
  inputScale?: (j: number) => number;
  outputScale: (k: number) => number;
}

/**
 * y[k] = outputScale(k)·Σ_j inputScale(j)·x[j]·cos(π·(k + shift)(2j + 1) / 2n), or with sines.
 *
 * With the samples of even index first and those of odd index behind them, backwards, sample p of the first half has
 * 2j + 1 = 4p + 1, and of the second half 4n − 4p − 1. So its angle is θ = 2πpk/n + 2πp·shift/n + π(k + shift)/2n, or
 * 2π(k + shift) − θ, which has the same cosine or sine up to a sign that does not depend on k. The first term of
 * θ is that of a Fourier transform, and the others depend on p or on k alone.
 */
export function trigonometric(n: number, terms: TrigonometricTerms): FastTransform<'real'> {
  const {isSine, shift, inputScale = () => 1, outputScale} = terms;
  const secondHalf = isSine === Number.isInteger(shift) ? -1 : 1;
  const samples = bitReversal(n);
  const indices = samples.map((p) => (p < n / 2 ? 2 * p : 2 * (n - p) - 1));
  const before = phases(n, (i) => {
    const scale = inputScale(indices[i]) * (samples[i] < n / 2 ? 1 : secondHalf);
    return [scale, (-2 * Math.PI * samples[i] * shift) / n];
  });
  // The real part of i·exp(−iθ) is sin θ.
  const quarter = isSine ? Math.PI / 2 : 0;
  const after = phases(n, (k) => [outputScale(k), quarter - (Math.PI * (k + shift)) / (2 * n)]);
  const block = fourierBlock([n], {sign: -1, scale: 1, increasingStride: true});
  const merged = withDiagonal(withDiagonal(block, 'input', before), 'output', after);
  const stages = [{indices}, toStage([merged], {takesRealPart: true})];
  return {field: 'real', inputShape: [n], outputShape: [n], stages};
}

/** n complex numbers, given by radius and angle. */
function phases(n: number, of: (i: number) => [radius: number, angle: number]) {
  const [real, imag] = [new Float64Array(n), new Float64Array(n)];
  for (let i = 0; i < n; i++) {
    const [radius, angle] = of(i);
    real[i] = radius * Math.cos(angle);
    imag[i] = radius * Math.sin(angle);
  }
  return {real, imag};
}
