/** Arguments that may be complex: as complex64 tensors, or as pairs of float32 ones, through which gradients flow. */
import {
  complex,
  imag,
  real,
  type Tensor,
  Tensor as TensorClass,
  type TensorLike,
  tensor,
  util,
  zerosLike,
} from '@tensorflow/tfjs-core';

/**
 * Complex numbers as two float32 tensors of one shape. tfjs has no gradients of complex64, so what is to be trained, or
 * lies between the loss and what is trained, takes this form.
 */
export interface ComplexPair {
  real: Tensor;
  imag: Tensor;
}

/** Real where imag is missing. */
export interface Parts {
  real: Tensor;
  imag?: Tensor;
}

export type MaybeComplex = Tensor | TensorLike | ComplexPair;

/** Whether a result is a pair, a complex64 tensor, or a real one. */
export type NumberForm = 'pair' | 'complex64' | 'float32';

/** @throws Error that names the op and the argument if it is neither float32 nor complex64 nor a pair of float32. */
export function toParts(op: string, argument: string, value: MaybeComplex): Parts {
  if (isPair(value)) return checkedPair(op, argument, value);
  const t = value instanceof TensorClass ? value : tensor(value);
  if (t.dtype === 'complex64') return {real: real(t), imag: imag(t)};
  if (t.dtype !== 'float32') {
    throw new Error(`${op}: ${argument} must have dtype float32 or complex64, got ${t.dtype} with shape [${t.shape}].`);
  }
  return {real: t};
}

function isPair(value: MaybeComplex): value is ComplexPair {
  return typeof value === 'object' && 'real' in value && 'imag' in value;
}

function checkedPair(op: string, argument: string, pair: ComplexPair): ComplexPair {
  for (const part of ['real', 'imag'] as const) {
    if (!(pair[part] instanceof TensorClass) || pair[part].dtype !== 'float32') {
      throw new Error(`${op}: ${argument}.${part} must be a float32 tensor, got ${pair[part]?.dtype ?? pair[part]}.`);
    }
  }
  if (!util.arraysEqual(pair.real.shape, pair.imag.shape)) {
    const shapes = `[${pair.real.shape}] and [${pair.imag.shape}]`;
    throw new Error(`${op}: ${argument} must have real and imaginary parts of one shape, got ${shapes}.`);
  }
  return pair;
}

/** A pair if any argument is one, else complex64 if any argument is, else float32. */
export function formOf(...values: MaybeComplex[]): NumberForm {
  if (values.some(isPair)) return 'pair';
  const isComplex = values.some((value) => value instanceof TensorClass && value.dtype === 'complex64');
  return isComplex ? 'complex64' : 'float32';
}

/** With an imaginary part of zeros where there is none. */
export function withImaginary({real, imag}: Parts): ComplexPair {
  return {real, imag: imag ?? zerosLike(real)};
}

export function inForm(form: NumberForm, {real, imag}: Parts): Tensor | ComplexPair {
  if (form === 'float32') return real;
  const pair = withImaginary({real, imag});
  return form === 'pair' ? pair : complex(pair.real, pair.imag);
}
