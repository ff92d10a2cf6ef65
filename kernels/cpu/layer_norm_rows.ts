/** Layer normalization of host arrays by plain loops in float64: the oracle of the tests, and what the CPU kernels run. */
import type {LayerNormSizes} from '../layer_norm_kernels.js';

type Numbers = ArrayLike<number>;

/** Mean and 1 / √(variance + epsilon) of each row, side by side. */
export function rowStatsOf(x: Numbers, {rows, width}: LayerNormSizes, epsilon: number): Float64Array {
  const stats = new Float64Array(2 * rows);
  for (let row = 0; row < rows; row++) {
    const [first, end] = [row * width, (row + 1) * width];
    let sum = 0;
    for (let i = first; i < end; i++) sum += x[i];
    const mean = sum / width;
    let squares = 0;
    for (let i = first; i < end; i++) squares += (x[i] - mean) ** 2;
    stats[2 * row] = mean;
    stats[2 * row + 1] = 1 / Math.sqrt(squares / width + epsilon);
  }
  return stats;
}

/** y = (x − mean) / √(variance + epsilon)·gamma + beta. */
export function layerNormForward(
  x: Numbers,
  gamma: Numbers,
  beta: Numbers,
  stats: Numbers,
  {rows, width}: LayerNormSizes,
): Float64Array {
  const y = new Float64Array(rows * width);
  for (let i = 0; i < y.length; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    y[i] = (x[i] - stats[2 * row]) * stats[2 * row + 1] * gamma[column] + beta[column];
  }
  return y;
}

/** With n for the normalized x and g = dy·gamma, dx = (g − mean of g − n·mean of g·n) / √(variance + epsilon). */
export function layerNormBackward(
  x: Numbers,
  gamma: Numbers,
  stats: Numbers,
  dy: Numbers,
  {rows, width}: LayerNormSizes,
): Float64Array {
  const dx = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const [mean, factor] = [stats[2 * row], stats[2 * row + 1]];
    let [sum, projection] = [0, 0];
    for (let column = 0; column < width; column++) {
      const i = row * width + column;
      sum += dy[i] * gamma[column];
      projection += dy[i] * gamma[column] * (x[i] - mean) * factor;
    }
    for (let column = 0; column < width; column++) {
      const i = row * width + column;
      const normalized = (x[i] - mean) * factor;
      dx[i] = factor * (dy[i] * gamma[column] - sum / width - (normalized * projection) / width);
    }
  }
  return dx;
}

/** Sums over all rows: of dy·n, with n for the normalized x, and of dy. */
export function layerNormWeightsBackward(
  x: Numbers,
  stats: Numbers,
  dy: Numbers,
  {rows, width}: LayerNormSizes,
): {dGamma: Float64Array; dBeta: Float64Array} {
  const [dGamma, dBeta] = [new Float64Array(width), new Float64Array(width)];
  for (let i = 0; i < rows * width; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    dGamma[column] += dy[i] * (x[i] - stats[2 * row]) * stats[2 * row + 1];
    dBeta[column] += dy[i];
  }
  return {dGamma, dBeta};
}
