/** The WebGL kernels of products with butterfly matrices: two factors per pass forward, one where gradients need each. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {
  engine,
  type KernelFunc,
  reshape,
  stack,
  sum,
  type Tensor,
  type TensorInfo,
  tidy,
  util,
} from '@tensorflow/tfjs-core';
import type {
  ButterflyMultiplyAttrs,
  ButterflyMultiplyBackwardInputs,
  ButterflyMultiplyInputs,
} from '../../src/kernel_names.js';
import {butterflyKernels} from '../butterfly_kernels.js';
import {addStacks, named, type PartedRows, type Parts, parts} from '../butterfly_parts.js';
import {type ButterflySizes, butterflySizes, type FactorStep, factorSteps} from '../butterfly_sizes.js';
import {
  type ButterflyVariant,
  butterflyUniforms,
  factorProgram,
  matrixGradientProgram,
  type Part,
} from './butterfly_programs.js';
import {type PackedProgram, runPackedProgram} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';

/** Pairs of rows that a fragment adds up of the gradient of a matrix; the sums are added up after that. */
const CHUNK_PAIRS = 64;

type KernelCall = Parameters<KernelFunc>[0];

function butterflyMultiply(call: KernelCall): Parts {
  const product = new Product(call);
  const {transpose, conjugate, outputSize} = product.attrs;
  const {output} = product.sweep({transposed: transpose, conjugated: conjugate}, product.x, outputSize, 2);
  return product.shared(output, outputSize, transpose);
}

function butterflyMultiplyBackward(call: KernelCall): Parts {
  const {dy, dyImag} = call.inputs as ButterflyMultiplyBackwardInputs;
  const product = new Product(call);
  const {attrs, sizes} = product;
  const forwards = {transposed: attrs.transpose, conjugated: attrs.conjugate};
  const backwards = {transposed: !attrs.transpose, conjugated: !attrs.conjugate};
  const recomputed = product.sweep(forwards, product.x, sizes.stacks * sizes.n, 1);
  const returned = product.sweep(backwards, parts(dy, dyImag), sizes.inputSize, 1);
  const dTwiddle = product.twiddleGradient(recomputed.inputs, returned.inputs);
  for (const {tensors} of [...recomputed.inputs.slice(1), recomputed.output, ...returned.inputs.slice(1)]) {
    product.dispose(tensors);
  }
  return [...product.shared(returned.output, sizes.inputSize, backwards.transposed), ...dTwiddle];
}

type Direction = Pick<ButterflyVariant, 'transposed' | 'conjugated'>;

class Product {
  readonly attrs: ButterflyMultiplyAttrs;
  readonly sizes: ButterflySizes;
  readonly x: Parts;
  private readonly backend: MathBackendWebGL;
  private readonly twiddle: Parts;

  constructor(call: KernelCall) {
    const inputs = call.inputs as ButterflyMultiplyInputs;
    this.backend = call.backend as MathBackendWebGL;
    this.attrs = call.attrs as unknown as ButterflyMultiplyAttrs;
    this.sizes = butterflySizes(inputs, this.attrs);
    this.x = parts(inputs.x, inputs.xImag);
    // tfjs's programs know shapes of four axes at most; a texel is a matrix in either.
    const matrices = util.sizeFromShape(inputs.twiddle.shape) / 4;
    this.twiddle = parts(inputs.twiddle, inputs.twiddleImag).map((part) => ({...part, shape: [matrices, 2, 2]}));
    const {batch, stacks, n} = this.sizes;
    const states = {'what the stacks put out': [batch, stacks * n]};
    assertTexturesFit('butterflyMultiply', {x: inputs.x.shape, twiddle: inputs.twiddle.shape, ...states});
  }

  /**
   * Takes rows through all factors, so many per pass. Also gives the input of each pass, the first of which is the
   * caller's own. Where the stacks share their outputs, these stand side by side, `shared` adds them up.
   */
  sweep(
    direction: Direction,
    source: Parts,
    outputSize: number,
    perPass: 1 | 2,
  ): {inputs: PartedRows[]; output: PartedRows} {
    const {sizes, attrs} = this;
    const steps = factorSteps(sizes, {...attrs, transpose: direction.transposed});
    const passes = passesOf(steps, sizes.factors, perPass);
    const sumsStacks = direction.transposed && sizes.stacks > 1;
    let state: PartedRows = {tensors: source, width: source[0].shape[1], isSplit: direction.transposed};
    const inputs = passes.map((pass, i) => {
      const input = state;
      const isCut = i === passes.length - 1 && !sumsStacks;
      state = this.apply(
        {...direction, complex: sizes.complex},
        pass,
        input,
        isCut ? outputSize : sizes.stacks * sizes.n,
      );
      if (perPass === 2 && i > 0) this.dispose(input.tensors);
      return input;
    });
    return {inputs, output: state};
  }

  private apply(variant: ButterflyVariant, pass: FactorStep[], source: PartedRows, width: number): PartedRows {
    const program = (part: Part) => factorProgram(variant, pass.length === 2 ? 2 : 1, part);
    const output = {width, isSplit: true};
    const textures = {...named('source', source.tensors), ...named('twiddle', this.twiddle)};
    const tensors = this.runParts(program, [this.sizes.batch, width], textures, pass, source, output);
    return {...output, tensors};
  }

  /** Runs the program of each part. */
  private runParts(
    program: (part: Part) => PackedProgram,
    shape: number[],
    textures: Record<string, TensorInfo | undefined>,
    [first, second = first]: FactorStep[],
    source: Omit<PartedRows, 'tensors'>,
    output: Omit<PartedRows, 'tensors'>,
  ): Parts {
    const {batch, stacks, blocks, factors, complex} = this.sizes;
    const values = {
      batch,
      stacks,
      logN: factors,
      factors: blocks * factors,
      sourceWidth: source.width,
      sourceIsSplit: Number(source.isSplit),
      outputWidth: output.width,
      outputIsSplit: Number(output.isSplit),
      firstFactor: first.factor,
      firstLogStride: first.logStride,
      secondFactor: second.factor,
      secondLogStride: second.logStride,
      chunkPairs: CHUNK_PAIRS,
    };
    const uniformValues = butterflyUniforms.map(({name}) => [values[name]]);
    const wanted: Part[] = complex ? ['real', 'imag'] : ['real'];
    return wanted.map((part) =>
      runPackedProgram(this.backend, program(part), shape, textures, butterflyUniforms, uniformValues),
    );
  }

  /** The outputs that stacks share, added up and cut off; the state is used up. */
  shared({tensors}: PartedRows, size: number, isShared: boolean): Parts {
    if (!isShared || this.sizes.stacks === 1) return tensors;
    return addStacks(tensors, this.sizes, size);
  }

  /** From each factor's inputs, and what came back to the outputs of each, the last factor first. */
  twiddleGradient(inputs: PartedRows[], returned: PartedRows[]): Parts {
    const {sizes, attrs} = this;
    const {batch, stacks, blocks, factors, n, complex} = sizes;
    const steps = factorSteps(sizes, attrs);
    const variant = {complex, transposed: attrs.transpose, conjugated: attrs.conjugate};
    const chunks = Math.ceil(batch / 2 / CHUNK_PAIRS);
    const ofFactors: Parts[] = [];
    steps.forEach((step, i) => {
      const [xs, gradients] = [inputs[i], returned[steps.length - 1 - i]];
      const textures = {...named('xs', xs.tensors), ...named('gradients', gradients.tensors)};
      const program = (part: Part) => matrixGradientProgram(variant, part);
      const shape = [(chunks * stacks * n) / 2, 2, 2];
      ofFactors[step.factor] = this.runParts(program, shape, textures, [step], xs, gradients);
    });
    return this.twiddle.map((_, part) =>
      tidy(() => {
        const sums = ofFactors.map((ofFactor): Tensor => {
          const perChunk = engine().makeTensorFromTensorInfo(ofFactor[part]);
          return sum(reshape(perChunk, [chunks, stacks, n / 2, 4]), 0);
        });
        return reshape(stack(sums, 1), [stacks, blocks, factors, n / 2, 2, 2]);
      }),
    );
  }

  dispose(tensors: Parts): void {
    for (const tensor of tensors) this.backend.disposeIntermediateTensorInfo(tensor);
  }
}

/** Steps one by one, or two by two as long as they belong to one block of so many factors. */
function passesOf(steps: FactorStep[], factors: number, perPass: 1 | 2): FactorStep[][] {
  const passes: FactorStep[][] = [];
  for (let block = 0; block < steps.length; block += factors) {
    for (let i = block; i < block + factors; i += perPass) {
      passes.push(steps.slice(i, Math.min(i + perPass, block + factors)));
    }
  }
  return passes;
}

export const webglButterflyKernels = butterflyKernels('webgl', {
  forward: butterflyMultiply,
  backward: butterflyMultiplyBackward,
});
