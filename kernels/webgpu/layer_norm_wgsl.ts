/**
 * WGSL of layer normalization and its gradients. A unit is what one load brings: four neighbouring elements of a row where
 * W is a multiple of 4, else one. Rows are walked by `lanes` invocations side by side, so that loads are coalesced, and
 * read again from memory, mostly a cache, rather than kept: a row may have any width.
 */
import {declareShares, plus, reductionFunction} from './reduction_wgsl.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';

/** What the shaders are compiled for. */
export interface LayerNormVariant {
  /** Whether a unit is four elements. */
  vectorized: boolean;
  /** Invocations side by side along a row, a power of two. */
  lanes: number;
}

/** Invocations of a workgroup of rows, or as many as a row has lanes if these are more. */
const ROW_THREADS = 64;

/** Rows that a workgroup takes at a time. */
export function rowsPerWorkgroup({lanes}: LayerNormVariant): number {
  return Math.max(1, ROW_THREADS / lanes);
}

/** Invocations of a workgroup of columns. */
const COLUMN_THREADS = 256;

/** How many rows a workgroup of columns goes through side by side. */
export function rowsAbreast({lanes}: LayerNormVariant): number {
  return COLUMN_THREADS / lanes;
}

/** Filled by `layerNormParams` in layer_norm.ts. */
const paramsStruct = `
struct Params {
  rows: u32,
  // Units of a row, and W.
  units: u32,
  width: f32,
  epsilon: f32,
  // Of sums down columns: rows of a chunk, and how many chunks there are.
  chunkRows: u32,
  chunks: u32,
}`;

const elementOf = ({vectorized}: LayerNormVariant) => (vectorized ? 'vec4f' : 'f32');

/** The sum of a unit's elements. */
const sumOfUnit = ({vectorized}: LayerNormVariant, unit: string) => (vectorized ? `dot(${unit}, vec4f(1.0))` : unit);

function unitBindings(variant: LayerNormVariant, names: string[], access: Binding['access']): Binding[] {
  return names.map((name) => ({name, access, element: elementOf(variant)}));
}

/** A function that adds up two numbers of each of a row's lanes. */
function rowSums({lanes}: LayerNormVariant): string {
  const threads = Math.max(ROW_THREADS, lanes);
  return `
${declareShares(threads, 'vec2f')}
${reductionFunction({name: 'sumsOfRow', type: 'vec2f', count: lanes, combine: plus})}`;
}

/** An entry point whose invocations are lanes of rows; `body` sees `row`, `lane`, and the row's units by `eachUnit`. */
function overRows({lanes}: LayerNormVariant, body: string): string {
  return entryPoint(
    Math.max(ROW_THREADS, lanes),
    `
  let row = workgroup * ${Math.max(1, ROW_THREADS / lanes)}u + localIndex / ${lanes}u;
  let lane = localIndex % ${lanes}u;
  // Barriers are for all invocations, also those past the last row.
  let isRow = row < params.rows;
  let base = row * params.units;
  let count = select(0u, params.units, isRow);
  ${body}`,
  );
}

const eachUnit = ({lanes}: LayerNormVariant, body: string) => `
  for (var n = lane; n < count; n += ${lanes}u) {
    ${body}
  }`;

/** y, and the statistics of rows. The mean comes first: squares of what is far from 0 would round away the variance. */
export function layerNormShader(variant: LayerNormVariant): Shader {
  return makeShader(
    [
      ...unitBindings(variant, ['x', 'gamma', 'beta'], 'read'),
      ...unitBindings(variant, ['y'], 'read_write'),
      {name: 'rowStats', access: 'read_write', element: 'vec2f'},
    ],
    paramsStruct,
    `
${rowSums(variant)}
${overRows(
  variant,
  `
  var sum = 0.0;
  ${eachUnit(variant, `sum += ${sumOfUnit(variant, 'x[base + n]')};`)}
  let rounded = sumsOfRow(localIndex, vec2f(sum, 0.0)).x / params.width;
  var rest = 0.0;
  var squares = 0.0;
  ${eachUnit(
    variant,
    `let centred = x[base + n] - rounded;
    rest += ${sumOfUnit(variant, 'centred')};
    squares += ${sumOfUnit(variant, 'centred * centred')};`,
  )}
  let means = sumsOfRow(localIndex, vec2f(rest, squares)) / params.width;
  // With what the mean's own rounding left over.
  let mean = rounded + means.x;
  let factor = 1.0 / sqrt(means.y + params.epsilon);
  ${eachUnit(variant, 'y[base + n] = (x[base + n] - mean) * factor * gamma[n] + beta[n];')}
  if (isRow && lane == 0u) { rowStats[row] = vec2f(mean, factor); }`,
)}`,
  );
}

/** dx: with n for the normalized x and g = dy·gamma, (g − mean of g − n·mean of g·n) / √(variance + epsilon). */
export function layerNormBackwardShader(variant: LayerNormVariant): Shader {
  const enterUnit = `
    let g = dy[base + n] * gamma[n];
    let normalized = (x[base + n] - stats.x) * stats.y;`;
  return makeShader(
    [
      ...unitBindings(variant, ['x', 'gamma', 'dy'], 'read'),
      {name: 'rowStats', access: 'read', element: 'vec2f'},
      ...unitBindings(variant, ['dx'], 'read_write'),
    ],
    paramsStruct,
    `
${rowSums(variant)}
${overRows(
  variant,
  `
  let stats = rowStats[min(row, params.rows - 1u)];
  var sums = vec2f();
  ${eachUnit(variant, `${enterUnit} sums += vec2f(${sumOfUnit(variant, 'g')}, ${sumOfUnit(variant, 'g * normalized')});`)}
  let means = sumsOfRow(localIndex, sums) / params.width;
  ${eachUnit(variant, `${enterUnit} dx[base + n] = stats.y * (g - means.x - normalized * means.y);`)}`,
)}`,
  );
}

/**
 * Sums down the columns of chunks of rows, dGamma and dBeta [chunks, W]: a workgroup takes `lanes` units of one chunk's
 * rows, several rows abreast. `add` adds what a unit of a row has, at `place`, to `ofGamma` and `ofBeta`.
 */
function columnSums(variant: LayerNormVariant, inputs: Binding[], add: string): Shader {
  const {lanes} = variant;
  const type = elementOf(variant);
  const abreast = rowsAbreast(variant);
  return makeShader(
    [...inputs, ...unitBindings(variant, ['dGamma', 'dBeta'], 'read_write')],
    paramsStruct,
    `
${declareShares(COLUMN_THREADS, type)}
${reductionFunction({name: 'sumOfColumn', type, count: abreast, stride: lanes, combine: plus})}
${entryPoint(
  COLUMN_THREADS,
  `
  let stripes = (params.units + ${lanes - 1}u) / ${lanes}u;
  let chunk = workgroup / stripes;
  let unit = workgroup % stripes * ${lanes}u + localIndex % ${lanes}u;
  let isUnit = unit < params.units && chunk < params.chunks;
  let chunkEnd = select(0u, min((chunk + 1u) * params.chunkRows, params.rows), isUnit);
  var ofGamma = ${type}();
  var ofBeta = ${type}();
  for (var row = chunk * params.chunkRows + localIndex / ${lanes}u; row < chunkEnd; row += ${abreast}u) {
    let place = row * params.units + unit;
    ${add}
  }
  let gammaSum = sumOfColumn(localIndex, ofGamma);
  let betaSum = sumOfColumn(localIndex, ofBeta);
  if (isUnit && localIndex < ${lanes}u) {
    dGamma[chunk * params.units + unit] = gammaSum;
    dBeta[chunk * params.units + unit] = betaSum;
  }`,
)}`,
  );
}

/** The sums of chunks of rows. */
export function layerNormWeightsShader(variant: LayerNormVariant): Shader {
  return columnSums(
    variant,
    [...unitBindings(variant, ['x', 'dy'], 'read'), {name: 'rowStats', access: 'read', element: 'vec2f'}],
    `let stats = rowStats[row];
    ofGamma += dy[place] * ((x[place] - stats.x) * stats.y);
    ofBeta += dy[place];`,
  );
}

/** The sums of these sums: the chunks before are the rows now, in one chunk. */
export function layerNormChunksShader(variant: LayerNormVariant): Shader {
  return columnSums(
    variant,
    unitBindings(variant, ['chunksOfGamma', 'chunksOfBeta'], 'read'),
    `ofGamma += chunksOfGamma[place];
    ofBeta += chunksOfBeta[place];`,
  );
}
