/** Sizes of one product with butterfly matrices, and the order of their factors. */
import type {ButterflyMultiplyAttrs, ButterflyMultiplyInputs} from '../src/kernel_names.js';

export interface ButterflySizes {
  /** Rows of x. */
  batch: number;
  stacks: number;
  blocks: number;
  /** Size of a butterfly matrix, a power of two. */
  n: number;
  /** Factors per block: log2 n. */
  factors: number;
  inputSize: number;
  outputSize: number;
  complex: boolean;
}

export function butterflySizes(
  {x, twiddle, xImag}: ButterflyMultiplyInputs,
  {outputSize}: ButterflyMultiplyAttrs,
): ButterflySizes {
  const [batch, inputSize] = x.shape;
  const [stacks, blocks, factors, pairs] = twiddle.shape;
  return {batch, stacks, blocks, n: 2 * pairs, factors, inputSize, outputSize, complex: xImag !== undefined};
}

/** One factor of a product: which of a stack's it is, and log2 of the distance between the elements of its pairs. */
export interface FactorStep {
  factor: number;
  logStride: number;
}

/** The factors of a stack in the order in which they are applied; the transpose applies them backwards. */
export function factorSteps(
  {blocks, factors}: Pick<ButterflySizes, 'blocks' | 'factors'>,
  {increasingStride, transpose}: Pick<ButterflyMultiplyAttrs, 'increasingStride' | 'transpose'>,
): FactorStep[] {
  const steps = Array.from({length: blocks * factors}, (_, factor) => {
    const isIncreasing = increasingStride !== (Math.floor(factor / factors) % 2 === 1);
    const position = factor % factors;
    return {factor, logStride: isIncreasing ? position : factors - 1 - position};
  });
  return transpose ? steps.reverse() : steps;
}
