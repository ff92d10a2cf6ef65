/** WGSL of the kernel for sums of columns: a workgroup adds up a chunk of rows in neighbouring columns. */
import {entryPoint, makeShader, type Shader} from './shader.js';

/** Columns of one workgroup, each of which several invocations add up, its lanes: neighbours read neighbouring memory. */
export const COLUMNS_ACROSS = 32;
const LANES = 8;

/** Sums are [chunks, columns]; `element` is what counts as one column. */
export function columnSumsShader(element: 'f32' | 'vec4f'): Shader {
  return makeShader(
    [
      {name: 'x', access: 'read', element},
      {name: 'sums', access: 'read_write', element},
    ],
    `
struct Params { rows: u32, columns: u32, chunkRows: u32, chunks: u32 }`,
    `
var<workgroup> shares: array<${element}, ${COLUMNS_ACROSS * LANES}>;
${entryPoint(
  COLUMNS_ACROSS * LANES,
  `
  let groups = (params.columns + ${COLUMNS_ACROSS - 1}u) / ${COLUMNS_ACROSS}u;
  let chunk = workgroup / groups;
  if (chunk >= params.chunks) { return; }
  let column = workgroup % groups * ${COLUMNS_ACROSS}u + localIndex % ${COLUMNS_ACROSS}u;
  let lane = localIndex / ${COLUMNS_ACROSS}u;
  let start = chunk * params.chunkRows;
  let end = select(start, min(start + params.chunkRows, params.rows), column < params.columns);
  var share = ${element}();
  for (var row = start + lane; row < end; row += ${LANES}u) { share += x[row * params.columns + column]; }
  shares[localIndex] = share;
  for (var half = ${LANES / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { shares[localIndex] += shares[localIndex + half * ${COLUMNS_ACROSS}u]; }
  }
  if (lane == 0u && column < params.columns) { sums[chunk * params.columns + column] = shares[localIndex]; }`,
)}`,
  );
}
