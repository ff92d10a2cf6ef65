/** The WebGL kernels of gelu: one pass each, a quad at a time. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {GeluAttrs, GeluBackwardInputs, GeluInputs} from '../../src/kernel_names.js';
import {geluFunctions, type ShaderGrammar} from '../gelu_formulas.js';
import {geluKernels} from '../gelu_kernels.js';
import {type PackedProgram, runPackedProgram} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';
import {texel, textureAccess} from './textures_glsl.js';

export const webglGeluKernels = geluKernels('webgl', {
  forward: (inputs, attrs, backend) => run(inputs, attrs, backend as MathBackendWebGL, false),
  backward: (inputs, attrs, backend) => run(inputs, attrs, backend as MathBackendWebGL, true),
});

function run(
  inputs: GeluInputs | GeluBackwardInputs,
  {approximate}: GeluAttrs,
  backend: MathBackendWebGL,
  backward: boolean,
): TensorInfo {
  const {x, bias} = inputs;
  assertTexturesFit('gelu', {x: x.shape});
  const program = geluProgram(approximate, bias !== undefined, backward);
  const values = x.shape.slice(-2).map((size) => [size]);
  return runPackedProgram(backend, program, x.shape, {...inputs}, uniforms, values);
}

/** Of each of the matrices in x. */
const uniforms = [
  {name: 'rows', type: 'int'},
  {name: 'columns', type: 'int'},
] as const;

const grammar: ShaderGrammar = {
  type: 'vec4',
  declareFunction: (name, body) => `
vec4 ${name}(vec4 x) {${body}
}`,
  declare: (name, value) => `vec4 ${name} = ${value};`,
  bySign: (whereNegative, elsewhere) => `mix(${elsewhere}, ${whereNegative}, lessThan(x, vec4(0.0)))`,
};

function geluProgram(approximate: boolean, hasBias: boolean, backward: boolean): PackedProgram {
  return {
    inputs: ['x', ...(hasBias ? ['bias'] : []), ...(backward ? ['dy'] : [])],
    code: `
${textureAccess}
${geluFunctions(grammar, approximate)}
void main() {
  int number = outputTexel();
  int columnPair = number % pairs(columns);
  int rowPair = number / pairs(columns) % pairs(rows);
  vec4 biased = ${texel('x', 'number')}${hasBias ? ` + ${texel('bias', 'columnPair')}.xyxy` : ''};
  vec4 result = ${backward ? `${texel('dy', 'number')} * geluSlope(biased)` : 'gelu(biased)'};
  setOutput(mix(result, vec4(0.0), outside(rowPair, columnPair, rows, columns)));
}`,
  };
}
