/**
 * How a product with butterfly matrices is cut into passes, each as many factors as one workgroup can apply to elements
 * that it holds.
 *
 * A factor pairs elements whose numbers differ in one bit. So the factors of a pass, whose bits lie in [lowBit, lowBit +
 * spanBits), tie together 2^spanBits elements, 2^lowBit apart. Beside each of them a workgroup takes its 2^laneBits
 * neighbours along, so that memory is read in runs, and the same of several rows where there is room.
 */
import type {ButterflySizes, FactorStep} from '../butterfly_sizes.js';

export interface ButterflyPass {
  /** The pass applies the steps from firstStep up to endStep. */
  firstStep: number;
  endStep: number;
  lowBit: number;
  spanBits: number;
  laneBits: number;
}

/** Sizes of a workgroup's tile, the usual one first, in bytes of workgroup memory. */
const TILE_BYTES = [16384, 32768];

/**
 * log2 of the numbers that a workgroup holds, on a device that gives workgroups so many bytes: the smaller tile that has
 * room for a row, so that one pass takes it through all factors. Where none has, the smallest: all devices have that, and
 * a core of a GPU has room for several, so that one computes while others wait for memory.
 */
export function butterflyTileBits({n, complex}: Pick<ButterflySizes, 'n' | 'complex'>, workgroupBytes: number): number {
  const numberBytes = complex ? 8 : 4;
  const [smallest] = TILE_BYTES;
  const bytes = TILE_BYTES.find((size) => n * numberBytes <= size && size <= workgroupBytes) ?? smallest;
  return Math.log2(bytes / numberBytes);
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
