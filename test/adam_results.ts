/** Steps of fusedAdam, and what is right. */
import * as tf from '@tensorflow/tfjs-core';
import {fusedAdam} from '../src/index.js';

/** Odd sides, whole quads, several workgroups, several matrices. */
const SHAPES = [[], [1], [7], [3, 5], [64, 36], [2, 3, 5]];
const STEPS = 4;
const RATE = 0.01;
const [BETA1, BETA2, EPSILON] = [0.8, 0.95, 1e-6];

/** Algorithm 1 of the paper, for one number. */
function adamInFloat64(start: number, gradients: number[]): number {
  let [w, m, v] = [start, 0, 0];
  gradients.forEach((g, i) => {
    m = BETA1 * m + (1 - BETA1) * g;
    v = BETA2 * v + (1 - BETA2) * g * g;
    w -= (RATE * (m / (1 - BETA1 ** (i + 1)))) / (Math.sqrt(v / (1 - BETA2 ** (i + 1))) + EPSILON);
  });
  return w;
}

export async function expectAdamStepsRight(): Promise<void> {
  const random = (shape: number[]) => tf.randomNormal(shape, 0, 1, 'float32', 7);
  for (const shape of SHAPES) {
    const size = tf.util.sizeFromShape(shape);
    const start = random(shape);
    // Of very different sizes, some of them 0.
    const gradients = Array.from({length: STEPS}, (_, i) =>
      tf.tidy(() => tf.mul(tf.relu(tf.randomNormal(shape, 0.5, 1, 'float32', 20 + i)), 10 ** (2 * i - 4))),
    );
    const weight = tf.variable(start);
    const optimizer = fusedAdam(RATE, BETA1, BETA2, EPSILON);
    for (const gradient of gradients) optimizer.applyGradients([{name: weight.name, tensor: gradient}]);
    const [got, from, ...given] = await Promise.all([weight, start, ...gradients].map((t) => t.data()));
    for (let i = 0; i < size; i++) {
      const right = adamInFloat64(
        from[i],
        given.map((values) => values[i]),
      );
      // A step is at most a few times the rate.
      expect(Math.abs(got[i] - right))
        .withContext(`${shape}, element ${i}`)
        .toBeLessThan(1e-6 * (1 + Math.abs(right)));
    }
    optimizer.dispose();
    tf.dispose([start, weight, gradients]);
  }
}
