/** What layer normalization is judged by, judged itself: values by the definition, gradients by finite differences. */
import {
  layerNormBackward,
  layerNormForward,
  layerNormWeightsBackward,
  rowStatsOf,
} from '../../kernels/cpu/layer_norm_rows.js';

const sizes = {rows: 3, width: 5};
const EPSILON = 0.1;

/** Of each number the same every time, spread over −1 to 1. */
function someValues(count: number, start: number): Float64Array {
  return Float64Array.from({length: count}, (_, i) => Math.sin(1 + 12.9898 * (i + start)));
}

function makeProblem() {
  const {rows, width} = sizes;
  return {
    x: someValues(rows * width, 0),
    gamma: someValues(width, 100),
    beta: someValues(width, 200),
    dy: someValues(rows * width, 300),
  };
}

type Problem = ReturnType<typeof makeProblem>;

function forward({x, gamma, beta}: Problem): Float64Array {
  return layerNormForward(x, gamma, beta, rowStatsOf(x, sizes, EPSILON), sizes);
}

describe('The loops that layer normalization is judged by', () => {
  it('follow the definition', () => {
    const {width} = sizes;
    const problem = makeProblem();
    const y = forward(problem);
    const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / width;
    for (let row = 0; row < sizes.rows; row++) {
      const x = problem.x.subarray(row * width, (row + 1) * width);
      const variance = mean(x.map((value) => value ** 2)) - mean(x) ** 2;
      x.forEach((value, i) => {
        const expected = ((value - mean(x)) / Math.sqrt(variance + EPSILON)) * problem.gamma[i] + problem.beta[i];
        expect(y[row * width + i]).toBeCloseTo(expected, 12);
      });
    }
  });

  it('have the gradients of finite differences', () => {
    const problem = makeProblem();
    const {x, gamma, dy} = problem;
    const stats = rowStatsOf(x, sizes, EPSILON);
    const {dGamma, dBeta} = layerNormWeightsBackward(x, stats, dy, sizes);
    const gradients = {x: layerNormBackward(x, gamma, stats, dy, sizes), gamma: dGamma, beta: dBeta};
    const loss = () => forward(problem).reduce((sum, value, i) => sum + value * dy[i], 0);
    for (const name of ['x', 'gamma', 'beta'] as const) {
      const values = problem[name];
      values.forEach((value, i) => {
        const lossAt = (shift: number) => {
          values[i] = value + shift;
          return loss();
        };
        const h = 1e-5;
        const difference = (lossAt(h) - lossAt(-h)) / (2 * h);
        values[i] = value;
        expect(gradients[name][i]).withContext(`${name}[${i}]`).toBeCloseTo(difference, 8);
      });
    }
  });
});
