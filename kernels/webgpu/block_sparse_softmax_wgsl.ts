/**
 * WGSL of the softmax over live blocks, and of its backward pass: a workgroup takes one row of the matrix. The blocks of a
 * row of blocks follow one another, so the row's elements are runs of `colSize`, a block apart.
 */
import {HIDDEN_BELOW} from '../../src/kernel_names.js';
import {declareShares, maximum, plus, reductionFunction} from './reduction_wgsl.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';

export const SOFTMAX_THREADS = 64;

/** Filled by `softmaxParams` in block_sparse_softmax.ts. */
const paramsStruct = `
struct Params {
  batch: u32,
  // Rows of blocks, over all heads and of one head.
  lists: u32,
  rowBlocks: u32,
  nnz: u32,
  rowSize: u32,
  colSize: u32,
  // Row i stands over column i + diagonal.
  diagonal: i32,
  scale: f32,
}`;

/** Where the workgroup's row is: `base`, the place of its first element, and `count`, how many elements it has. */
const enterRow = `
  let list = workgroup / params.rowSize % params.lists;
  let entry = workgroup / params.rowSize / params.lists;
  if (entry >= params.batch) { return; }
  let row = workgroup % params.rowSize;
  let firstBlock = u32(walk[list]);
  let count = (u32(walk[list + 1u]) - firstBlock) * params.colSize;
  let base = ((entry * params.nnz + firstBlock) * params.rowSize + row) * params.colSize;`;

const placeFunction = `
fn placeOf(base: u32, n: u32) -> u32 {
  return base + n / params.colSize * params.rowSize * params.colSize + n % params.colSize;
}`;

const shares = declareShares(SOFTMAX_THREADS, 'f32');
const overRow = {type: 'f32', count: SOFTMAX_THREADS} as const;
const sumFunction = reductionFunction({name: 'sumOfAll', ...overRow, combine: plus});
const maximumFunction = reductionFunction({name: 'maximumOfAll', ...overRow, combine: maximum});
const eachElement = (body: string) => `
  for (var n = localIndex; n < count; n += ${SOFTMAX_THREADS}u) {
    ${body}
  }`;

const walk: Binding = {name: 'walk', access: 'read', element: 'i32'};

/** The score that hidden elements have while the maximum is sought; their weight is 0 in any case. */
const HIDDEN = '-3e38';

/** `walk` is the table of walkTable in layout_tables.ts. */
export function softmaxShader(causal: boolean): Shader {
  const columnOf =
    'i32(u32(walk[params.lists + 2u + 2u * (firstBlock + n / params.colSize)]) * params.colSize + n % params.colSize)';
  const isHidden = `value < ${HIDDEN_BELOW}${causal ? ` || ${columnOf} > lastColumn` : ''}`;
  const enterElement = `
    let value = values[placeOf(base, n)];
    let hidden = ${isHidden};`;
  return makeShader(
    [
      {name: 'values', access: 'read', element: 'f32'},
      {name: 'probabilities', access: 'read_write', element: 'f32'},
      walk,
    ],
    paramsStruct,
    `
${shares}
${placeFunction}
${sumFunction}
${maximumFunction}
${entryPoint(
  SOFTMAX_THREADS,
  `
  ${enterRow}
  let lastColumn = i32(list % params.rowBlocks * params.rowSize + row) + params.diagonal;
  var highest = ${HIDDEN};
  ${eachElement(`${enterElement}
    highest = max(highest, select(params.scale * value, ${HIDDEN}, hidden));`)}
  let maximum = maximumOfAll(localIndex, highest);
  var share = 0.0;
  ${eachElement(`${enterElement}
    share += select(exp(params.scale * value - maximum), 0.0, hidden);`)}
  let sum = sumOfAll(localIndex, share);
  ${eachElement(`${enterElement}
    probabilities[placeOf(base, n)] = select(exp(params.scale * value - maximum) / sum, 0.0, hidden);`)}`,
)}`,
  );
}

export function softmaxBackwardShader(): Shader {
  return makeShader(
    [
      {name: 'probabilities', access: 'read', element: 'f32'},
      {name: 'dProbabilities', access: 'read', element: 'f32'},
      {name: 'dScores', access: 'read_write', element: 'f32'},
      walk,
    ],
    paramsStruct,
    `
${shares}
${placeFunction}
${sumFunction}
${entryPoint(
  SOFTMAX_THREADS,
  `
  ${enterRow}
  var share = 0.0;
  ${eachElement(`let place = placeOf(base, n);
    share += probabilities[place] * dProbabilities[place];`)}
  let sum = sumOfAll(localIndex, share);
  ${eachElement(`let place = placeOf(base, n);
    dScores[place] = probabilities[place] * (dProbabilities[place] - sum);`)}`,
)}`,
  );
}
