/** WGSL of a language model's loss: a number of invocations go along each row of logits, forward; backward each makes its own. */
import {declareShares, maximum, plus, reductionFunction} from './reduction_wgsl.js';
import {entryPoint, makeShader, type Shader} from './shader.js';

export const LOSS_THREADS = 256;

/** What counts as one element of the logits. */
export type LogitsElement = 'f32' | 'vec4f';

/** Below all logits, and no infinity when another is subtracted. */
const LOWEST_LOGIT = '-3e38';

/**
 * The losses of rows, times `factor`, and their softmaxStats; `lanes` invocations take a row. Each goes through it once,
 * four logits at a time, and scales the sum that it has anew when it meets a larger logit.
 *
 * Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018, arXiv 1805.02867).
 */
export function rowLossShader(element: LogitsElement, lanes: number): Shader {
  const isWhole = element === 'vec4f';
  const rowsAtOnce = LOSS_THREADS / lanes;
  return makeShader(
    [
      {name: 'logits', access: 'read', element},
      {name: 'targets', access: 'read', element: 'i32'},
      {name: 'softmaxStats', access: 'read_write', element: 'vec2f'},
      {name: 'losses', access: 'read_write', element: 'f32'},
    ],
    `
struct Params { rows: u32, columns: u32, factor: f32 }`,
    `
${declareShares(LOSS_THREADS, 'f32')}
${reductionFunction({name: 'sumOfRow', type: 'f32', count: lanes, combine: plus})}
${reductionFunction({name: 'maximumOfRow', type: 'f32', count: lanes, combine: maximum})}
fn logitAt(index: u32) -> f32 {
  return ${isWhole ? 'logits[index / 4u][index % 4u]' : 'logits[index]'};
}
fn quadAt(base: u32, column: u32) -> vec4f {
  ${isWhole ? 'return logits[(base + column) / 4u];' : quadOfNumbers}
}
${entryPoint(
  LOSS_THREADS,
  `
  if (workgroup * ${rowsAtOnce}u >= params.rows) { return; }
  let row = workgroup * ${rowsAtOnce}u + localIndex / ${lanes}u;
  let lane = localIndex % ${lanes}u;
  let base = row * params.columns;
  let end = select(0u, params.columns, row < params.rows);
  var maximum = ${LOWEST_LOGIT};
  var share = 0.0;
  for (var column = 4u * lane; column < end; column += ${4 * lanes}u) {
    let quad = quadAt(base, column);
    let higher = max(maximum, max(max(quad.x, quad.y), max(quad.z, quad.w)));
    share = share * exp(maximum - higher) + dot(exp(quad - higher), vec4f(1.0));
    maximum = higher;
  }
  let highest = maximumOfRow(localIndex, maximum);
  let sum = sumOfRow(localIndex, share * exp(maximum - highest));
  if (lane == 0u && row < params.rows) {
    softmaxStats[row] = vec2f(highest, sum);
    let token = targets[row];
    var behind = 0.0;
    if (token >= 0 && token < i32(params.columns)) { behind = highest - logitAt(base + u32(token)); }
    losses[row] = params.factor * (log(sum) + behind);
  }`,
)}`,
  );
}

const quadOfNumbers = `
  var quad = vec4f(${LOWEST_LOGIT});
  for (var i = 0u; i < min(params.columns - column, 4u); i++) { quad[i] = logits[base + column + i]; }
  return quad;`;

/** (softmax − one-hot)·factor·dLoss. Four elements side by side may belong to several rows. */
export function lossGradientShader(element: LogitsElement): Shader {
  const advance = `
  column++;
  if (column == params.columns) { column = 0u; row++; }`;
  const quad = `
  let quad = logits[index];
  var result = vec4f(gradientOf(row, column, quad.x));
  ${['y', 'z', 'w'].map((i) => `${advance}\n  result.${i} = gradientOf(row, column, quad.${i});`).join('')}
  dLogits[index] = factor * result;`;
  return makeShader(
    [
      {name: 'logits', access: 'read', element},
      {name: 'targets', access: 'read', element: 'i32'},
      {name: 'softmaxStats', access: 'read', element: 'vec2f'},
      {name: 'dLoss', access: 'read', element: 'f32'},
      {name: 'dLogits', access: 'read_write', element},
    ],
    `
struct Params { size: u32, columns: u32, factor: f32 }`,
    `
fn gradientOf(row: u32, column: u32, logit: f32) -> f32 {
  let stats = softmaxStats[row];
  return exp(logit - stats.x) / stats.y - select(0.0, 1.0, i32(column) == targets[row]);
}
${entryPoint(
  LOSS_THREADS,
  `
  let index = workgroup * ${LOSS_THREADS}u + localIndex;
  if (index >= params.size) { return; }
  let factor = params.factor * dLoss[0];
  let first = ${element === 'vec4f' ? '4u * index' : 'index'};
  var row = first / params.columns;
  var column = first - row * params.columns;
  ${element === 'vec4f' ? quad : 'dLogits[index] = factor * gradientOf(row, column, logits[index]);'}`,
)}`,
  );
}
