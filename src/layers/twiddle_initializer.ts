/** First values of butterfly factors. */
import {
  add,
  addN,
  div,
  mul,
  neg,
  ones,
  randomNormal,
  reshape,
  serialization,
  sqrt,
  square,
  stack,
  sub,
  type Tensor,
  tidy,
  tile,
  zeros,
  zerosLike,
} from '@tensorflow/tfjs-core';
import type {ComplexPair} from '../ops/complex_numbers.js';
import {type ButterflyStage, makeTwiddle} from '../transforms/fast_transform.js';
import {fft} from '../transforms/index.js';

/**
 * How butterfly factors start: `randn` with normal entries of variance ½; `ortho` with random rotations and reflections,
 * or Haar-distributed unitary matrices where they are complex; `identity`; `fft`, complex only, with the unitary Fourier
 * transform of a bit-reversed input.
 */
export type TwiddleStart = 'randn' | 'ortho' | 'identity' | 'fft';

/** Makes one part of a twiddle [stacks, blocks, log2 n, n / 2, 2, 2]; both parts of one start need the same seed. */
export class TwiddleInitializer extends serialization.Serializable {
  static readonly className = 'TwiddleInitializer';

  constructor(
    private readonly start: TwiddleStart,
    private readonly complex: boolean,
    private readonly part: 'real' | 'imag',
    private readonly seed: number,
  ) {
    super();
  }

  apply(shape: (number | null)[]): Tensor {
    return tidy(() => {
      const twiddle = this.complex ? this.complexTwiddle(shape as number[]) : this.realTwiddle(shape as number[]);
      return reshape(twiddle[this.part] as Tensor, shape as number[]);
    });
  }

  /**
   * So many tensors, the coordinates of points that are uniformly distributed on a unit sphere: normal numbers divided by
   * their norm. GPUs' sines and cosines are too inexact to make orthogonal matrices of angles.
   */
  private unitVectors(shape: number[], dimensions: number, shift: number): Tensor[] {
    const normals = Array.from({length: dimensions}, (_, i) =>
      randomNormal(shape, 0, 1, 'float32', this.seed + shift + i),
    );
    const norm = sqrt(addN(normals.map((each) => square(each))));
    return normals.map((each) => div(each, norm));
  }

  private realTwiddle(shape: number[]): {real: Tensor; imag?: Tensor} {
    if (this.start === 'randn') return {real: randomNormal(shape, 0, Math.SQRT1_2, 'float32', this.seed)};
    const pairs = shape.slice(0, 4);
    if (this.start === 'identity') return {real: identities(pairs)};
    // Rows (c, −d·s) and (s, d·c), where d = ±1 chooses between rotation and reflection.
    const [c, s] = this.unitVectors(pairs, 2, 0);
    const [direction] = this.unitVectors(pairs, 1, 2);
    return {real: stack([c, neg(mul(direction, s)), s, mul(direction, c)], 4)};
  }

  private complexTwiddle(shape: number[]): ComplexPair {
    const pairs = shape.slice(0, 4);
    if (this.start === 'randn') {
      const part = (shift: number) => randomNormal(shape, 0, 0.5, 'float32', this.seed + shift);
      return {real: part(0), imag: part(1)};
    }
    if (this.start === 'identity') {
      const real = identities(pairs);
      return {real, imag: zerosLike(real)};
    }
    return this.start === 'fft' ? fourierTwiddle(shape) : this.haarUnitary(pairs);
  }

  /** A phase times [[a, b], [−b*, a*]] with (a, b) uniform on the unit sphere of ℂ²: Haar-distributed in U(2). */
  private haarUnitary(pairs: number[]): ComplexPair {
    const [phaseReal, phaseImag] = this.unitVectors(pairs, 2, 0);
    const [aReal, aImag, bReal, bImag] = this.unitVectors(pairs, 4, 2);
    const entries = [
      {real: aReal, imag: aImag},
      {real: bReal, imag: bImag},
      {real: neg(bReal), imag: bImag},
      {real: aReal, imag: neg(aImag)},
    ];
    return {
      real: stack(
        entries.map(({real, imag}) => sub(mul(phaseReal, real), mul(phaseImag, imag))),
        4,
      ),
      imag: stack(
        entries.map(({real, imag}) => add(mul(phaseReal, imag), mul(phaseImag, real))),
        4,
      ),
    };
  }

  fromConfigUsesCustomObjects(): boolean {
    return false;
  }

  /** The layer that owns the factors makes this anew, so that nothing of it is saved. */
  getConfig(): serialization.ConfigDict {
    return {};
  }
}

/** [.., 4] of identity matrices. */
function identities(pairs: number[]): Tensor {
  const [one, zero] = [ones(pairs), zeros(pairs)];
  return stack([one, zero, zero, one], 4);
}

/** The same for every stack; it has one block. */
function fourierTwiddle([stacks, , factors]: number[]): ComplexPair {
  const stage = fft(2 ** factors, {unitary: true}).stages.find((each) => 'twiddle' in each) as ButterflyStage;
  const {real, imag} = makeTwiddle(stage) as ComplexPair;
  const repeated = (part: Tensor) => tile(part, [stacks, 1, 1, 1, 1, 1]);
  return {real: repeated(real), imag: repeated(imag)};
}
