/**
 * Butterfly factors learn transforms through the kernels and Adam, as Dao et al. (2019) show: the Fourier transform of a
 * bit-reversed input and the Hadamard transform to an error of 1e-4, and without the bit reversal not at all.
 */
import * as tf from '@tensorflow/tfjs-core';
import {butterflyMultiply, type ComplexPair, transforms} from '../../src/index.js';
import {TwiddleInitializer} from '../../src/layers/twiddle_initializer.js';
import {describeOnBackends} from '../backends.js';

declare const FULL_GRID: boolean;

const STEPS = 400;
const LEARNING_RATE = 0.05;
const WANTED_ERROR = 1e-4;

/** Adam whose learning rate falls to 0 as a cosine does. */
class DecayingAdam extends tf.AdamOptimizer {
  enterStep(step: number): void {
    this.learningRate = (LEARNING_RATE / 2) * (1 + Math.cos((Math.PI * step) / STEPS));
  }
}

/** The root mean square of the difference between a product's matrix and the wanted one, over [n, n]. */
function meanSquare(differences: tf.Tensor[]): tf.Scalar {
  return differences.map((part) => tf.mean(tf.square(part))).reduce((sum, part) => tf.add(sum, part)) as tf.Scalar;
}

/** The least error within {@link STEPS} steps. */
async function learn(variables: tf.Variable[], loss: () => tf.Scalar): Promise<number> {
  const optimizer = new DecayingAdam(LEARNING_RATE, 0.9, 0.999);
  let error = Number.POSITIVE_INFINITY;
  for (let step = 0; step < STEPS && error >= WANTED_ERROR; step++) {
    optimizer.enterStep(step);
    const square = optimizer.minimize(loss, true, variables) as tf.Scalar;
    // Looking waits for the GPU.
    if (step % 20 === 19) error = Math.sqrt((await square.data())[0]);
    square.dispose();
  }
  tf.dispose(variables);
  optimizer.dispose();
  return error;
}

function twiddle(n: number, complex: boolean, seed: number): tf.Variable[] {
  const factors = Math.log2(n);
  const parts = complex ? (['real', 'imag'] as const) : (['real'] as const);
  return parts.map((part) =>
    tf.tidy(() => {
      const first = new TwiddleInitializer('ortho', complex, part, seed).apply([1, 1, factors, n / 2, 2, 2]);
      return tf.variable(first);
    }),
  );
}

async function learnFourier(n: number, seed: number, reversesBits: boolean): Promise<number> {
  const [real, imag] = twiddle(n, true, seed);
  // Row j of x is the j-th unit vector as the product sees it, and row j of the wanted matrix what becomes of it.
  const order = reversesBits ? transforms.bitReversal(n) : Int32Array.from({length: n}, (_, i) => i);
  const x = tf.gather(tf.eye(n), tf.tensor1d(order, 'int32'), 1);
  const angles = Array.from({length: n * n}, (_, i) => (-2 * Math.PI * ((Math.floor(i / n) * (i % n)) % n)) / n);
  const wanted: ComplexPair = {
    real: tf.tensor2d(
      angles.map((angle) => Math.cos(angle) / Math.sqrt(n)),
      [n, n],
    ),
    imag: tf.tensor2d(
      angles.map((angle) => Math.sin(angle) / Math.sqrt(n)),
      [n, n],
    ),
  };
  return learn([real, imag], () => {
    const y = butterflyMultiply(x, {real, imag});
    return meanSquare([tf.sub(y.real, wanted.real), tf.sub(y.imag, wanted.imag)]);
  });
}

async function learnHadamard(n: number, seed: number): Promise<number> {
  const [real] = twiddle(n, false, seed);
  const ones = (bits: number): number => (bits === 0 ? 0 : (bits & 1) + ones(bits >> 1));
  const signs = Array.from({length: n * n}, (_, i) => (ones(Math.floor(i / n) & (i % n)) % 2 === 0 ? 1 : -1));
  const wanted = tf.tensor2d(
    signs.map((value) => value / Math.sqrt(n)),
    [n, n],
  );
  const x = tf.eye(n);
  return learn([real], () => meanSquare([tf.sub(butterflyMultiply(x, real), wanted)]));
}

describeOnBackends('Butterfly factors learn', () => {
  for (const n of FULL_GRID ? [8, 16, 32, 64] : [8, 32]) {
    for (const seed of FULL_GRID ? [1, 2, 3] : [1]) {
      it(`the Fourier transform of ${n} elements in another order, seed ${seed}`, async () => {
        expect(await learnFourier(n, seed, true)).toBeLessThan(WANTED_ERROR);
      });

      it(`the Hadamard transform of ${n} elements, seed ${seed}`, async () => {
        expect(await learnHadamard(n, seed)).toBeLessThan(WANTED_ERROR);
      });
    }
  }

  it('no Fourier transform without the bit reversal', async () => {
    expect(await learnFourier(8, 1, false)).toBeGreaterThan(0.1);
  });
});
