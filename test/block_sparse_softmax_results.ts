/** The softmax over live blocks: the cases that every backend is tested on, what is right, and the rule that judges. */
import * as tf from '@tensorflow/tfjs-core';
import {MPRandGauss} from '@tensorflow/tfjs-core/dist/ops/rand_util';
import {type BlockLayout, blockSparseSoftmax} from '../src/index.js';
import {expectWithin, worstError} from './attention_results.js';
import {makeLayout, placesOf} from './block_sparse_results.js';

/** The layout is that of the product cases. */
export interface SoftmaxCase {
  blockSize: number | [number, number];
  density: number;
  leading?: number[];
  heads?: number;
  scale?: number;
  causal?: boolean;
  /** The values' standard deviation. */
  magnitude?: number;
  /** Whether every seventh element, and all of the first row that has any, are −Infinity. */
  hidden?: boolean;
}

export const softmaxCases: SoftmaxCase[] = [
  ...[0, 0.25, 0.5, 1].map((density) => ({blockSize: 16, density})),
  {blockSize: [5, 6], density: 0.5},
  {blockSize: 3, density: 0.5, leading: [2]},
  {blockSize: 1, density: 0.5},
  {blockSize: [8, 64], density: 0.5, scale: 0.3},
  {blockSize: 8, density: 0.5, scale: -0.5, hidden: true},
  {blockSize: 8, density: 0.5, leading: [2, 3], causal: true},
  {blockSize: [7, 4], density: 1, causal: true},
  {blockSize: [8, 4], density: 1, causal: true, hidden: true},
  {blockSize: 8, density: 0.5, leading: [2], heads: 3},
  {blockSize: [5, 6], density: 0.25, leading: [2], heads: 3, causal: true, hidden: true},
  {blockSize: 8, density: 0.5, hidden: true},
  {blockSize: 8, density: 0.5, magnitude: 300},
];

/** Values of the matrix, weights of the probabilities in the loss, and the matrix as a dense one. */
interface Problem {
  softmaxCase: SoftmaxCase;
  layout: BlockLayout;
  /** [.., nnz, row size, column size], and so are the weights. */
  shape: number[];
  values: Float32Array;
  weights: Float32Array;
  /** Where the values lie in the dense matrices [count, rows, columns]. */
  places: number[];
  denseShape: [number, number, number];
  /** Of the dense matrices: 1 where an element is live and visible. */
  visible: Float32Array;
}

function makeProblem(softmaxCase: SoftmaxCase): Problem {
  const {leading = [], heads = 1, magnitude = 1, causal = false, hidden = false} = softmaxCase;
  const layout = makeLayout(softmaxCase);
  const shape = [...leading, layout.nnz, ...layout.blockSize];
  const [rows, columns] = layout.shape;
  const denseShape: [number, number, number] = [tf.util.sizeFromShape(leading) * heads, rows, columns];
  const places = placesOf(layout, denseShape[0]);
  const rowOf = (place: number) => Math.floor(place / columns);
  const normal = new MPRandGauss(0, 1, 'float32', false, 1);
  const draw = () => normal.nextValue();
  const isHidden = (place: number, i: number) => hidden && (i % 7 === 3 || rowOf(place) === rowOf(places[0]));
  const values = Float32Array.from(places, (place, i) => (isHidden(place, i) ? -Infinity : magnitude * draw()));
  const visible = new Float32Array(tf.util.sizeFromShape(denseShape));
  places.forEach((place, i) => {
    const ahead = (place % columns) - (rowOf(place) % rows) - (columns - rows);
    if (values[i] !== -Infinity && !(causal && ahead > 0)) visible[place] = 1;
  });
  return {softmaxCase, layout, shape, values, weights: values.map(draw), places, denseShape, visible};
}

/** Values as dense matrices; 0 where nothing is visible. */
function spread({places, visible}: Problem, values: Float32Array): Float32Array {
  const dense = new Float32Array(visible.length);
  places.forEach((place, i) => {
    if (visible[place] === 1) dense[place] = values[i];
  });
  return dense;
}

function pick({places}: Problem, dense: ArrayLike<number>): Float64Array {
  return Float64Array.from(places, (place) => dense[place]);
}

interface SoftmaxResult {
  probabilities: ArrayLike<number>;
  dValues: ArrayLike<number>;
}

/** The right answer, in float64 and from dense matrices. */
function exactResult(problem: Problem): SoftmaxResult {
  const {visible, denseShape, softmaxCase} = problem;
  const {scale = 1} = softmaxCase;
  const [values, weights] = [problem.values, problem.weights].map((each) => spread(problem, each));
  const columns = denseShape[2];
  const [probabilities, dValues] = [new Float64Array(visible.length), new Float64Array(visible.length)];
  for (let first = 0; first < visible.length; first += columns) {
    const seen = Array.from({length: columns}, (_, j) => first + j).filter((place) => visible[place] === 1);
    const maximum = Math.max(...seen.map((place) => scale * values[place]));
    const sum = seen.reduce((total, place) => total + Math.exp(scale * values[place] - maximum), 0);
    for (const place of seen) probabilities[place] = Math.exp(scale * values[place] - maximum) / sum;
    const delta = seen.reduce((total, place) => total + probabilities[place] * weights[place], 0);
    for (const place of seen) dValues[place] = scale * probabilities[place] * (weights[place] - delta);
  }
  return {probabilities: pick(problem, probabilities), dValues: pick(problem, dValues)};
}

async function resultOf(
  shape: number[],
  values: Float32Array,
  weights: Float32Array,
  softmax: (x: tf.Tensor) => tf.Tensor,
): Promise<SoftmaxResult> {
  const results = tf.tidy(() => {
    const [x, dy] = [tf.tensor(values, shape), tf.tensor(weights, shape)];
    return [softmax(x), tf.grad(softmax)(x, dy)];
  });
  const [probabilities, dValues] = await Promise.all(results.map((t) => t.data()));
  tf.dispose(results);
  return {probabilities, dValues};
}

/** tfjs's softmax of dense matrices in which dead and hidden elements are far below all others. */
function denseSoftmax(x: tf.Tensor, visible: tf.Tensor, scale: number): tf.Tensor {
  const scores = tf.where(tf.cast(visible, 'bool'), tf.mul(x, scale), tf.fill(x.shape, -1e9));
  return tf.mul(tf.softmax(scores), visible);
}

/** The rule: at most twice the error of tfjs's dense softmax in float32, plus 1e-5. */
export async function expectSoftmaxRight(softmaxCase: SoftmaxCase): Promise<void> {
  const problem = makeProblem(softmaxCase);
  const {layout, shape, values, weights, denseShape, visible} = problem;
  const {scale = 1, causal} = softmaxCase;
  const exact = exactResult(problem);
  const actual = await resultOf(shape, values, weights, (x) => blockSparseSoftmax(x, {layout, scale, causal}));
  const dense = await resultOf(denseShape, spread(problem, values), spread(problem, weights), (x) =>
    denseSoftmax(x, tf.tensor(visible, denseShape), scale),
  );
  for (const name of ['probabilities', 'dValues'] as const) {
    const yardstick = pick(problem, dense[name]);
    expectWithin(name, actual[name], exact[name], 2 * worstError(yardstick, exact[name]));
  }
  const dead = problem.places.flatMap((place, i) => (visible[place] === 1 ? [] : [actual.probabilities[i]]));
  expect(dead.every((probability) => probability === 0))
    .withContext('hidden elements are 0')
    .toBe(true);
  layout.dispose();
}
