/**
 * How a product with butterfly matrices is cut into passes, each as many factors as one workgroup can apply to elements
 * that it holds.
 *
 * A factor pairs elements whose numbers differ in one bit. So the factors of a pass, whose bits lie in [lowBit, lowBit +
 * spanBits), tie together 2^spanBits elements, 2^lowBit apart. Beside each of them a workgroup takes its 2^laneBits
 * neighbours along, so that memory is read in runs, and the same of several rows where there is room.
 */
import type {FactorStep} from '../butterfly_sizes.js';

export interface ButterflyPass {
  /** The pass applies the steps from firstStep up to endStep. */
  firstStep: number;
  endStep: number;
  lowBit: number;
  spanBits: number;
  laneBits: number;
}

/** Runs shorter than 16 elements, 64 bytes, waste what memory delivers at once. */
const WANTED_LANE_BITS = 4;

/** @param tileBits log2 of the elements that a workgroup can hold; at least 5. */
export function butterflyPasses(steps: FactorStep[], tileBits: number): ButterflyPass[] {
  const passes: ButterflyPass[] = [];
  let firstStep = 0;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const close = (endStep: number) => {
    const spanBits = high - low;
    passes.push({firstStep, endStep, lowBit: low, spanBits, laneBits: Math.min(low, tileBits - spanBits)});
  };
  steps.forEach(({logStride}, step) => {
    const [nextLow, nextHigh] = [Math.min(low, logStride), Math.max(high, logStride + 1)];
    const fits = nextHigh - nextLow + Math.min(nextLow, WANTED_LANE_BITS) <= tileBits;
    if (!fits) {
      close(step);
      firstStep = step;
    }
    [low, high] = fits ? [nextLow, nextHigh] : [logStride, logStride + 1];
  });
  close(steps.length);
  return passes;
}
