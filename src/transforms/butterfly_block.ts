/** Blocks of butterfly factors in float64, as which transforms are put together before they are rounded. */
import type {Numbers} from '../../kernels/cpu/butterfly_products.js';
import type {ButterflyStage} from './fast_transform.js';

/** log₂ n factors. */
export interface ButterflyBlock {
  readonly n: number;
  readonly increasingStride: boolean;
  /** [log₂ n, n / 2, 2, 2]. */
  readonly twiddle: Numbers;
}

/** A 2 × 2 matrix, row by row. */
export interface PairMatrix {
  real: readonly number[];
  imag?: readonly number[];
}

/** A pair of elements, `first` and `first + stride`, and the place of its matrix in the twiddle. */
interface Pair {
  stride: number;
  first: number;
  matrix: number;
}

function pairsOf(n: number, increasingStride: boolean): Pair[] {
  const factors = Math.log2(n);
  return Array.from({length: (factors * n) / 2}, (_, matrix) => {
    const [factor, t] = [Math.floor((2 * matrix) / n), matrix % (n / 2)];
    const stride = 2 ** (increasingStride ? factor : factors - 1 - factor);
    return {stride, first: 2 * stride * Math.floor(t / stride) + (t % stride), matrix};
  });
}

/** The block with these matrices for all pairs: real throughout, or complex throughout. */
export function butterflyBlock(
  n: number,
  increasingStride: boolean,
  matrixOf: (stride: number, first: number) => PairMatrix,
): ButterflyBlock {
  const matrices = pairsOf(n, increasingStride).map(({stride, first}) => matrixOf(stride, first));
  const real = Float64Array.from(matrices.flatMap((matrix) => matrix.real));
  const imag = matrices[0].imag && Float64Array.from(matrices.flatMap((matrix) => matrix.imag as number[]));
  return {n, increasingStride, twiddle: {real, ...(imag && {imag})}};
}

/** The block with a diagonal matrix merged into its first factor (`input`) or its last one (`output`). */
export function withDiagonal(block: ButterflyBlock, side: 'input' | 'output', diagonal: Numbers): ButterflyBlock {
  const {n, increasingStride, twiddle} = block;
  const isComplex = twiddle.imag || diagonal.imag;
  const merged = {
    real: Float64Array.from(twiddle.real),
    ...(isComplex && {imag: Float64Array.from(twiddle.imag ?? new Float64Array(twiddle.real.length))}),
  };
  const pairs = pairsOf(n, increasingStride);
  for (const {stride, first, matrix} of side === 'input' ? pairs.slice(0, n / 2) : pairs.slice(-n / 2)) {
    for (let entry = 0; entry < 4; entry++) {
      const isSecond = side === 'input' ? entry % 2 : entry >> 1;
      const [element, at] = [first + isSecond * stride, 4 * matrix + entry];
      const [a, b] = [merged.real[at], merged.imag?.[at] ?? 0];
      const [c, d] = [diagonal.real[element], diagonal.imag?.[element] ?? 0];
      merged.real[at] = a * c - b * d;
      if (merged.imag) merged.imag[at] = a * d + b * c;
    }
  }
  return {...block, twiddle: merged};
}

/** A stage of blocks whose directions alternate; they are all real, or all complex. */
export function toStage(
  blocks: readonly ButterflyBlock[],
  {inputSize, outputSize, takesRealPart = false}: Partial<ButterflyStage> = {},
): ButterflyStage {
  const {n, increasingStride, twiddle} = blocks[0];
  const join = (part: 'real' | 'imag') =>
    Float32Array.from(blocks.flatMap((block) => Array.from(block.twiddle[part] as ArrayLike<number>)));
  return {
    twiddle: {real: join('real'), ...(twiddle.imag && {imag: join('imag')})},
    twiddleShape: [1, blocks.length, Math.log2(n), n / 2, 2, 2],
    increasingStride,
    transpose: false,
    inputSize: inputSize ?? n,
    outputSize: outputSize ?? n,
    takesRealPart,
  };
}
