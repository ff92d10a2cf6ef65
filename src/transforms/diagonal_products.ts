/** Products of fast transforms and diagonal matrices, as cheap stand-ins for dense ones. */
import {toStage, withDiagonal} from './butterfly_block.js';
import {chainTransforms, type FastTransform, transposeTransform} from './fast_transform.js';
import {hadamardBlock} from './hadamard_and_haar.js';
import {assertValues, checkedPermutation, checkedSize} from './transform_arguments.js';
import {trigonometric} from './trigonometric.js';

/** Diagonals and permutation of {@link fastfood}, n values each. */
export interface FastfoodArgs {
  /** The diagonal B, next to the input: ±1 at random. */
  signs: ArrayLike<number>;
  /** Π: element i of its output is element permutation[i] of its input. At random. */
  permutation: ArrayLike<number>;
  /** The diagonal G: from the standard normal distribution. */
  gaussian: ArrayLike<number>;
  /** The diagonal S, next to the output: the lengths that the rows shall have, divided by the norm of G and by σ. */
  scaling: ArrayLike<number>;
}

/**
 * Fastfood's stand-in for a Gaussian random matrix, y = 1/√n·S·H·G·Π·H·B·x, with diagonals S, G and B, a permutation Π
 * and the Hadamard matrix H of ±1; all rows of H·G·Π·H·B / √n have the norm of G. Two butterflies and a gather.
 *
 * Source: Le, Sarlós and Smola, "Fastfood – Approximating Kernel Expansions in Loglinear Time" (2013).
 *
 * ```js
 * const transform = tf.transforms.fastfood({
 *   signs: [1, -1, -1, 1],
 *   permutation: [2, 0, 3, 1],
 *   gaussian: [0.3, -1.2, 0.7, 1.9],
 *   scaling: [0.9, 0.5, 0.8, 0.4],
 * });
 * console.log(tf.applyTransform(tf.randomNormal([5, 4]), transform).shape); // [5, 4]
 * ```
 *
 * @param args see {@link FastfoodArgs}.
 * @throws Error if they have different lengths, or not a power of two from 2 on, or values that are not finite, or Π is
 *   no permutation.
 */
export function fastfood({signs, permutation, gaussian, scaling}: FastfoodArgs): FastTransform<'real'> {
  const n = checkedSize('fastfood', 'signs', signs);
  for (const [argument, values] of Object.entries({permutation, gaussian, scaling})) {
    assertValues('fastfood', argument, values, n);
  }
  const indices = checkedPermutation('fastfood', permutation);
  const first = withDiagonal(hadamardBlock(n, 1), 'input', {real: signs});
  // Each of its log₂ n factors takes its share of 1/√n.
  const second = withDiagonal(hadamardBlock(n, Math.SQRT1_2), 'input', {real: gaussian});
  const stages = [toStage([first]), {indices}, toStage([withDiagonal(second, 'output', {real: scaling})])];
  return {field: 'real', inputShape: [n], outputShape: [n], stages};
}

/** The diagonals of one layer of {@link acdc}, n values each. */
export interface AcdcLayer {
  /** A, next to the input. */
  signal: ArrayLike<number>;
  /** D, on the cosine transform. */
  spectrum: ArrayLike<number>;
}

/**
 * ACDC, a product of layers y = C⁻¹·D·C·A·x, the first one first, with diagonals A and D and the orthonormal cosine
 * transform C of type 2. The diagonals are merged into the transforms, and the gathers between layers cancel, so that K
 * layers are 2K complex butterflies between two gathers.
 *
 * Source: Moczulski, Denil, Appleyard and de Freitas, "ACDC: A Structured Efficient Linear Layer" (2015, arXiv
 * 1511.05946).
 *
 * ```js
 * const layer = {signal: [1, 0.9, 1.1, 1], spectrum: [1, 0.5, 0.25, 0.1]};
 * console.log(tf.applyTransform(tf.randomNormal([5, 4]), tf.transforms.acdc([layer, layer])).shape); // [5, 4]
 * ```
 *
 * @param acdcLayers see {@link AcdcLayer}; at least one.
 * @throws Error if there is none, or diagonals have different lengths, or not a power of two from 2 on, or values that
 *   are not finite.
 */
export function acdc(acdcLayers: readonly AcdcLayer[]): FastTransform<'real'> {
  if (acdcLayers.length === 0) throw new Error('acdc: acdcLayers must have at least one layer, got none.');
  const n = checkedSize('acdc', 'acdcLayers[0].signal', acdcLayers[0].signal);
  const norm = (k: number) => Math.sqrt((k === 0 ? 1 : 2) / n);
  const cosine = {isSine: false, shift: 0};
  const inverse = transposeTransform(trigonometric(n, {...cosine, outputScale: norm}));
  const transforms = acdcLayers.flatMap(({signal, spectrum}, i) => {
    assertValues('acdc', `acdcLayers[${i}].signal`, signal, n);
    assertValues('acdc', `acdcLayers[${i}].spectrum`, spectrum, n);
    const [inputScale, outputScale] = [(j: number) => signal[j], (k: number) => norm(k) * spectrum[k]];
    return [trigonometric(n, {...cosine, inputScale, outputScale}), inverse];
  });
  return chainTransforms(transforms);
}
