/**
 * Butterfly products for backends that have no kernel of their own: factor by factor, each a few of tfjs's own ops. tfjs
 * does not tape the ops inside a kernel, so the backward pass is written out as well; it keeps the input of each factor.
 */
import {
  add,
  getKernel,
  type KernelFunc,
  mul,
  pad,
  registerKernel,
  reshape,
  slice,
  stack,
  sub,
  sum,
  type Tensor,
  type TensorInfo,
  tidy,
} from '@tensorflow/tfjs-core';
import {
  ButterflyMultiply,
  type ButterflyMultiplyAttrs,
  type ButterflyMultiplyBackwardInputs,
  type ButterflyMultiplyInputs,
} from '../../src/kernel_names.js';
import {butterflyKernels} from '../butterfly_kernels.js';
import {type ButterflySizes, butterflySizes, type FactorStep, factorSteps} from '../butterfly_sizes.js';
import {asTensor} from './as_tensor.js';

/** Makes butterfly products available on a backend that has no kernel of its own. */
export function registerButterflyFallback(backendName: string): void {
  if (getKernel(ButterflyMultiply, backendName)) return;
  const kernels = butterflyKernels(backendName, {
    forward: (call) => tidy(() => parts(problemOf(call).forward())),
    backward: (call) => tidy(() => backward(call)),
  });
  for (const kernel of kernels) registerKernel(kernel);
}

type KernelCall = Parameters<KernelFunc>[0];

function problemOf({inputs, attrs}: KernelCall): Product {
  return new Product(inputs as ButterflyMultiplyInputs, attrs as unknown as ButterflyMultiplyAttrs);
}

function backward(call: KernelCall): Tensor[] {
  const {dy, dyImag} = call.inputs as ButterflyMultiplyBackwardInputs;
  const {dx, dTwiddle} = problemOf(call).backward(numbers(dy, dyImag));
  return [...parts(dx), ...parts(dTwiddle)];
}

/** Real numbers, or complex ones where there is an imaginary part. */
interface Numbers {
  real: Tensor;
  imag?: Tensor;
}

function numbers(real: TensorInfo, imag: TensorInfo | undefined): Numbers {
  return {real: asTensor(real), ...(imag && {imag: asTensor(imag)})};
}

function parts({real, imag}: Numbers): Tensor[] {
  return imag ? [real, imag] : [real];
}

function onParts({real, imag}: Numbers, map: (part: Tensor) => Tensor): Numbers {
  return {real: map(real), ...(imag && {imag: map(imag)})};
}

/** a·b, or conj(a)·b. */
function product(a: Numbers, b: Numbers, conjugatesA: boolean): Numbers {
  if (!a.imag || !b.imag) return {real: mul(a.real, b.real)};
  const [realOfImags, imagOfImag] = [mul(a.imag, b.imag), mul(a.imag, b.real)];
  const crossed = mul(a.real, b.imag);
  return conjugatesA
    ? {real: add(mul(a.real, b.real), realOfImags), imag: sub(crossed, imagOfImag)}
    : {real: sub(mul(a.real, b.real), realOfImags), imag: add(crossed, imagOfImag)};
}

function plus(a: Numbers, b: Numbers): Numbers {
  return {real: add(a.real, b.real), ...(a.imag && b.imag && {imag: add(a.imag, b.imag)})};
}

/** One call. Between its factors the numbers are [batch, stacks, n]. */
class Product {
  private readonly sizes: ButterflySizes;
  private readonly twiddle: Numbers;
  private readonly x: Numbers;

  constructor(
    {x, twiddle, xImag, twiddleImag}: ButterflyMultiplyInputs,
    private readonly attrs: ButterflyMultiplyAttrs,
  ) {
    this.sizes = butterflySizes({x, twiddle, xImag, twiddleImag}, attrs);
    const {stacks, blocks, factors, n} = this.sizes;
    this.twiddle = onParts(numbers(twiddle, twiddleImag), (t) => reshape(t, [stacks, blocks * factors, n / 2, 4]));
    this.x = numbers(x, xImag);
  }

  forward(): Numbers {
    const {transpose} = this.attrs;
    return this.store(this.inputsOfSteps().output, this.sizes.outputSize, !transpose);
  }

  backward(dy: Numbers): {dx: Numbers; dTwiddle: Numbers} {
    const {attrs, sizes} = this;
    const {inputs} = this.inputsOfSteps();
    const steps = factorSteps(sizes, attrs);
    const gradients: Numbers[] = [];
    let gradient = this.load(dy, !attrs.transpose);
    for (let i = steps.length - 1; i >= 0; i--) {
      gradients[steps[i].factor] = this.factorGradient(gradient, inputs[i], steps[i]);
      gradient = this.apply(gradient, steps[i], true);
    }
    const {stacks, blocks, factors, n} = sizes;
    const ofFactors = (part: 'real' | 'imag') =>
      reshape(
        stack(
          gradients.map((each) => each[part] as Tensor),
          1,
        ),
        [stacks, blocks, factors, n / 2, 2, 2],
      );
    return {
      dx: this.store(gradient, sizes.inputSize, attrs.transpose),
      dTwiddle: {real: ofFactors('real'), ...(sizes.complex && {imag: ofFactors('imag')})},
    };
  }

  private inputsOfSteps(): {inputs: Numbers[]; output: Numbers} {
    let output = this.load(this.x, this.attrs.transpose);
    const inputs = factorSteps(this.sizes, this.attrs).map((step) => {
      const input = output;
      output = this.apply(input, step, false);
      return input;
    });
    return {inputs, output};
  }

  /** Rows as [batch, stacks, n], or [batch, 1, n] where the stacks share them, continued with zeros. */
  private load(rows: Numbers, isSplit: boolean): Numbers {
    const {batch, stacks, n} = this.sizes;
    const width = isSplit ? stacks * n : n;
    return onParts(rows, (t) =>
      reshape(
        pad(t, [
          [0, 0],
          [0, width - (t.shape[1] as number)],
        ]),
        [batch, isSplit ? stacks : 1, n],
      ),
    );
  }

  private store(state: Numbers, size: number, isSplit: boolean): Numbers {
    const {batch, stacks, n} = this.sizes;
    return onParts(state, (t) => slice(isSplit ? reshape(t, [batch, stacks * n]) : sum(t, 1), [0, 0], [batch, size]));
  }

  /** The two elements of all pairs, [batch, stacks or 1, n / 2s, s] each. */
  private pairs(state: Numbers, {logStride}: FactorStep): [Numbers, Numbers] {
    const stride = 2 ** logStride;
    const groups = this.sizes.n / 2 / stride;
    const elements = (which: number) =>
      onParts(state, (t) => {
        const [batch, stacks] = t.shape as [number, number, number];
        const grouped = reshape(t, [batch * stacks * groups, 2, stride]);
        return reshape(slice(grouped, [0, which, 0], [-1, 1, -1]), [batch, stacks, groups, stride]);
      });
    return [elements(0), elements(1)];
  }

  /** Row a, column b of all matrices of a factor, [1, stacks, n / 2s, s]. */
  private entries({factor, logStride}: FactorStep, a: number, b: number): Numbers {
    const {stacks, n} = this.sizes;
    const stride = 2 ** logStride;
    return onParts(this.twiddle, (t) =>
      reshape(slice(t, [0, factor, 0, 2 * a + b], [-1, 1, -1, 1]), [1, stacks, n / 2 / stride, stride]),
    );
  }

  /** Multiplies all pairs by their matrices, or by what carries gradients back: the conjugate transposes. */
  private apply(state: Numbers, step: FactorStep, isBackward: boolean): Numbers {
    const {transpose, conjugate} = this.attrs;
    const inputs = this.pairs(state, step);
    const outputs = [0, 1].map((a) => {
      const terms = [0, 1].map((b) => {
        const entry = transpose !== isBackward ? this.entries(step, b, a) : this.entries(step, a, b);
        return product(entry, inputs[b] as Numbers, conjugate !== isBackward);
      });
      return plus(terms[0] as Numbers, terms[1] as Numbers);
    });
    const join = (part: 'real' | 'imag') => {
      const elements = stack(
        outputs.map((output) => output[part] as Tensor),
        3,
      );
      return reshape(elements, [this.sizes.batch, -1, this.sizes.n]);
    };
    return {real: join('real'), ...(state.imag && {imag: join('imag')})};
  }

  /** dT[a][b] = Σ g[i_a]·conj(x[i_b]) of the applied matrices, as that of the matrices they came from: [stacks, n / 2, 4]. */
  private factorGradient(gradient: Numbers, input: Numbers, step: FactorStep): Numbers {
    const {stacks, n} = this.sizes;
    const {transpose, conjugate} = this.attrs;
    const [g, x] = [this.pairs(gradient, step), this.pairs(input, step)];
    const ofEntry = (row: number, column: number) => {
      const [a, b] = transpose ? [column, row] : [row, column];
      const terms = conjugate ? product(g[a], x[b], true) : product(x[b], g[a], true);
      return onParts(terms, (t) => reshape(sum(t, 0), [stacks, n / 2]));
    };
    const entries = [ofEntry(0, 0), ofEntry(0, 1), ofEntry(1, 0), ofEntry(1, 1)];
    const join = (part: 'real' | 'imag') =>
      stack(
        entries.map((entry) => entry[part] as Tensor),
        2,
      );
    return {real: join('real'), ...(input.imag && {imag: join('imag')})};
  }
}
