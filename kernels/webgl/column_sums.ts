/** The WebGL kernel for sums of columns: of chunks of rows first, then of the chunks' sums. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import {columnSumsKernel} from '../column_sums_kernels.js';
import {type PackedProgram, runPackedProgram} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';
import {texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** Pairs of rows that a fragment adds up. */
const CHUNK_PAIRS = 128;

export const webglColumnSums = columnSumsKernel('webgl', (x, backend) => sumColumns(backend as MathBackendWebGL, x));

/** [rows, columns] → [columns]. */
export function sumColumns(backend: MathBackendWebGL, x: TensorInfo): TensorInfo {
  assertTexturesFit('columnSums', {x: x.shape});
  const [rows, columns] = x.shape;
  const values = [[rows], [columns]];
  if (rows <= 2 * CHUNK_PAIRS) return runPackedProgram(backend, totalProgram, [columns], {x}, uniforms, values);
  const chunks = Math.ceil(rows / (2 * CHUNK_PAIRS));
  const sums = runPackedProgram(backend, chunkProgram, [2 * chunks, columns], {x}, uniforms, values);
  const total = sumColumns(backend, sums);
  backend.disposeIntermediateTensorInfo(sums);
  return total;
}

const uniforms = [
  {name: 'rows', type: 'int'},
  {name: 'columns', type: 'int'},
] as const;

/** Sums of even rows and of odd ones, of the chunk that the fragment makes, go into `finish`. */
function sumsProgram(finish: string): PackedProgram {
  const walk = texelWalk('x', 'x', 'firstPair * pairs(columns) + columnPair', 'pairs(columns)');
  return {
    inputs: ['x'],
    code: `
${textureAccess}
void main() {
  int number = outputTexel();
  int columnPair = number % pairs(columns);
  int firstPair = number / pairs(columns) * ${CHUNK_PAIRS};
  // Where there is an odd row, what lies beside it is left out.
  int wholePairs = min(rows / 2 - firstPair, ${CHUNK_PAIRS});
  vec4 sum = vec4(0.0);
  ${walk.declare}
  ${walkTogether([walk], 'wholePairs', `sum += ${walk.fetch};`)}
  if (rows % 2 == 1 && wholePairs >= 0 && wholePairs < ${CHUNK_PAIRS}) { sum.xy += ${walk.fetch}.xy; }
  if (2 * columnPair + 1 >= columns) { sum.yw = vec2(0.0); }
  ${finish}
}`,
  };
}

const chunkProgram = sumsProgram('setOutput(sum);');
const totalProgram = sumsProgram('setOutput(vec4(sum.xy + sum.zw, 0.0, 0.0));');
