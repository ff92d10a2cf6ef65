/** What a fast transform is, stage by stage, and the op `applyTransform` that runs one. */
import {
  customGrad,
  gather,
  reshape,
  type Tensor,
  Tensor as TensorClass,
  type TensorLike,
  tensor,
  tensor1d,
  tidy,
  util,
} from '@tensorflow/tfjs-core';
import {butterflyMultiply} from '../ops/butterfly_multiply.js';
import {
  type ComplexPair,
  formOf,
  inForm,
  type MaybeComplex,
  type Parts,
  toParts,
  withImaginary,
} from '../ops/complex_numbers.js';

/** The numbers that a transform makes of real ones. */
export type NumberField = 'real' | 'complex';

/** Element i of the output is element indices[i] of the input; the indices are a permutation. */
export interface GatherStage {
  readonly indices: Int32Array;
}

/** A product with a butterfly matrix, as `butterflyMultiply` computes it with these options. */
export interface ButterflyStage {
  /** The factors of all blocks, computed in float64 and rounded once. */
  readonly twiddle: {readonly real: Float32Array; readonly imag?: Float32Array};
  /** [1, blocks, log₂ n, n / 2, 2, 2]. */
  readonly twiddleShape: readonly number[];
  readonly increasingStride: boolean;
  readonly transpose: boolean;
  /** Elements that come in, at most n; continued with zeros. */
  readonly inputSize: number;
  /** Elements that go on, at most n; the others are cut off. */
  readonly outputSize: number;
  /** Whether only the real part goes on. */
  readonly takesRealPart: boolean;
}

/**
 * A linear map as stages that are applied one after the other to the elements of the input in row-major order. It holds
 * numbers on the host and no tensors, so there is nothing to dispose, and one transform serves all backends.
 */
export interface FastTransform<Field extends NumberField = NumberField> {
  /** Whether the matrix of the transform is real or complex. */
  readonly field: Field;
  /** The last axes of the input: [n], or [n1, n2] of a transform in two dimensions. */
  readonly inputShape: readonly number[];
  readonly outputShape: readonly number[];
  readonly stages: readonly (GatherStage | ButterflyStage)[];
}

/**
 * Applies a transform to the last axes of x, on the active backend, in O(n log n) operations. Differentiable once in x.
 * Each call sends the factors to the backend; to keep them there, or to train them, see `tf.transforms.makeTwiddle`.
 *
 * ```js
 * const filter = tf.transforms.circularConvolution([0.5, 0.25, 0, 0, 0, 0, 0, 0.25]);
 * const y = tf.applyTransform(tf.randomNormal([3, 8]), filter);
 * console.log(y.shape); // [3, 8]
 * ```
 *
 * @param x [.., ...inputShape], float32 or complex64 or a pair `{real, imag}`.
 * @param transform one of `tf.transforms`, such as `tf.transforms.fft(16)`.
 * @returns [.., ...outputShape]: of a complex transform a pair; of a real one what x is.
 * @throws Error that names the argument, if x does not end in the transform's input shape, or has another dtype.
 */
export function applyTransform(x: ComplexPair, transform: FastTransform): ComplexPair;
export function applyTransform(x: MaybeComplex, transform: FastTransform<'complex'>): ComplexPair;
export function applyTransform(x: Tensor | TensorLike, transform: FastTransform<'real'>): Tensor;
export function applyTransform(x: MaybeComplex, transform: FastTransform): Tensor | ComplexPair {
  const isReal = transform.field === 'real';
  const form = isReal ? formOf(x) : 'pair';
  // tidy takes no pairs apart, so a pair leaves it as a list.
  const parts = tidy(() => {
    const input = toParts('applyTransform', 'x', x);
    const {rows, outputShape} = shapesOf(input.real.shape, transform);
    const whole = onParts(input, (part) => reshape(part, rows));
    // A stage that takes the real part would lose what an imaginary input adds to it.
    const runs = isReal ? partsOf(whole).map((real) => ({real})) : [whole];
    return runs.flatMap((run) => partsOf(runStages(run, transform))).map((part) => reshape(part, outputShape));
  });
  const result = inForm(form, {real: parts[0], imag: parts[1]});
  if (form === 'complex64') for (const part of parts) part.dispose();
  return result;
}

function shapesOf(x: number[], {inputShape, outputShape}: FastTransform) {
  const leading = x.slice(0, Math.max(0, x.length - inputShape.length));
  if (!util.arraysEqual(x, [...leading, ...inputShape])) {
    throw new Error(
      `applyTransform: x must have the last axes [${inputShape.join(', ')}], got shape [${x.join(', ')}].`,
    );
  }
  const rows: [number, number] = [util.sizeFromShape(leading), util.sizeFromShape([...inputShape])];
  return {rows, outputShape: [...leading, ...outputShape]};
}

function partsOf({real, imag}: Parts): Tensor[] {
  return imag ? [real, imag] : [real];
}

function onParts({real, imag}: Parts, map: (part: Tensor) => Tensor): Parts {
  return {real: map(real), ...(imag && {imag: map(imag)})};
}

function runStages(input: Parts, {stages}: FastTransform): Parts {
  return stages.reduce(
    (numbers, stage) =>
      'indices' in stage ? onParts(numbers, (part) => permute(part, stage.indices)) : multiply(numbers, stage),
    input,
  );
}

/** A gather whose gradient is a gather too; tfjs's own would add up segments. */
function permute(rows: Tensor, indices: Int32Array): Tensor {
  const gatherBy = (t: Tensor, order: Int32Array) => gather(t, tensor1d(order, 'int32'), 1);
  return customGrad((x) => ({
    value: gatherBy(x as Tensor, indices),
    gradFunc: (dy: Tensor) => gatherBy(dy, inversePermutation(indices)),
  }))(rows);
}

function multiply(numbers: Parts, stage: ButterflyStage): Parts {
  const twiddle = makeTwiddle(stage);
  if (twiddle instanceof TensorClass && !numbers.imag) return {real: butterflyMultiply(numbers.real, twiddle, stage)};
  const product = butterflyMultiply(withImaginary(numbers), twiddle, stage);
  return stage.takesRealPart ? {real: product.real} : product;
}

/**
 * The factors of a stage as tensors, for `butterflyMultiply`, or to start training from.
 *
 * ```js
 * const [butterfly] = tf.transforms.hadamard(8).stages;
 * const twiddle = tf.variable(tf.transforms.makeTwiddle(butterfly));
 * console.log(tf.butterflyMultiply(tf.ones([3, 8]), twiddle, butterfly).shape); // [3, 8]
 * ```
 *
 * @param stage a stage of a transform that is a butterfly; `butterflyMultiply` takes it as options too.
 * @returns [1, blocks, log₂ n, n / 2, 2, 2]: a float32 tensor, or a pair of two; the caller disposes them.
 */
export function makeTwiddle({twiddle: {real, imag}, twiddleShape}: ButterflyStage): Tensor | ComplexPair {
  const toTensor = (values: Float32Array) => tensor(values, [...twiddleShape]);
  return imag ? {real: toTensor(real), imag: toTensor(imag)} : toTensor(real);
}

/**
 * The transform with the transposed matrix, of the same factors. That of an orthogonal one is its inverse.
 *
 * ```js
 * const dct = tf.transforms.dct(8, 2, {orthonormal: true});
 * const y = tf.applyTransform(tf.ones([8]), dct);
 * tf.applyTransform(y, tf.transforms.transposeTransform(dct)).print(); // ones again
 * ```
 */
export function transposeTransform<Field extends NumberField>(transform: FastTransform<Field>): FastTransform<Field> {
  const {field, inputShape, outputShape, stages} = transform;
  const transposed = stages.map((stage) =>
    'indices' in stage
      ? {indices: inversePermutation(stage.indices)}
      : {...stage, transpose: !stage.transpose, inputSize: stage.outputSize, outputSize: stage.inputSize},
  );
  return {field, inputShape: outputShape, outputShape: inputShape, stages: transposed.reverse()};
}

/** One after the other. Gathers that meet become one, and none where they cancel. */
export function chainTransforms(transforms: readonly FastTransform<'real'>[]): FastTransform<'real'> {
  const stages: (GatherStage | ButterflyStage)[] = [];
  for (const stage of transforms.flatMap((transform) => transform.stages)) {
    const last = stages.at(-1);
    if (!last || !('indices' in last && 'indices' in stage)) {
      stages.push(stage);
      continue;
    }
    stages.pop();
    const indices = stage.indices.map((index) => last.indices[index]);
    if (indices.some((index, i) => index !== i)) stages.push({indices});
  }
  const [{inputShape}, {outputShape}] = [transforms[0], transforms[transforms.length - 1]];
  return {field: 'real', inputShape, outputShape, stages};
}

/** The permutation p⁻¹ with p⁻¹[p[i]] = i. */
export function inversePermutation(permutation: Int32Array): Int32Array {
  const inverse = new Int32Array(permutation.length);
  permutation.forEach((from, to) => {
    inverse[from] = to;
  });
  return inverse;
}
