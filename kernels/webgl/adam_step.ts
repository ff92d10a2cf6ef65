/** The WebGL kernel of Adam's step: a pass for each moment, and one for the weight. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {type KernelConfig, type TensorInfo, util} from '@tensorflow/tfjs-core';
import {AdamStep, type AdamStepAttrs, type AdamStepInputs} from '../../src/kernel_names.js';
import {type PackedProgram, runPackedProgram, type Uniform} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';
import {texel, textureAccess} from './textures_glsl.js';

export const webglAdamStep: KernelConfig = {
  kernelName: AdamStep,
  backendName: 'webgl',
  kernelFunc: (call): TensorInfo[] => {
    const backend = call.backend as MathBackendWebGL;
    const {value, gradient, firstMoment, secondMoment} = call.inputs as AdamStepInputs;
    const {learningRate, beta1, beta2, epsilon, correction1, correction2} = call.attrs as unknown as AdamStepAttrs;
    const {shape} = value;
    assertTexturesFit('fusedAdam', {'a weight': shape});
    const nothing = () => backend.makeTensorInfo(shape, 'float32', new Float32Array(0));
    if (util.sizeFromShape(shape) === 0) return [nothing(), nothing(), nothing()];
    const [rows, columns] = [1, 1, ...shape].slice(-2);
    const run = (program: PackedProgram, textures: Record<string, TensorInfo>, numbers: Record<string, number>) => {
      const floats = Object.keys(numbers).map((name) => ({name, type: 'float'}) as const);
      const values = [rows, columns, ...Object.values(numbers)].map((number) => [number]);
      return runPackedProgram(backend, program, shape, textures, [...sides, ...floats], values);
    };
    const newMoment = (moment: TensorInfo, program: PackedProgram, beta: number) =>
      run(program, {moment, gradient}, {stays: beta, comes: 1 - beta});
    const first = newMoment(firstMoment, firstMomentProgram, beta1);
    const second = newMoment(secondMoment, secondMomentProgram, beta2);
    const newValue = run(
      valueProgram,
      {value, first, second},
      {rate: learningRate / correction1, factor2: 1 / correction2, epsilon},
    );
    return [newValue, first, second];
  },
};

/** Of each of the matrices in a weight. */
const sides: Uniform[] = [
  {name: 'rows', type: 'int'},
  {name: 'columns', type: 'int'},
];

/** What a quad of the result is, of the quads at the same place. */
function program(inputs: string[], result: string): PackedProgram {
  return {
    inputs,
    code: `
${textureAccess}
void main() {
  int number = outputTexel();
  ${inputs.map((name) => `vec4 ${name}Quad = ${texel(name, 'number')};`).join('\n  ')}
  vec4 result = ${result};
  setOutput(mix(result, vec4(0.0), outside(number / pairs(columns) % pairs(rows), number % pairs(columns), rows, columns)));
}`,
  };
}

const firstMomentProgram = program(['moment', 'gradient'], 'stays * momentQuad + comes * gradientQuad');
const secondMomentProgram = program(['moment', 'gradient'], 'stays * momentQuad + comes * gradientQuad * gradientQuad');
const valueProgram = program(
  ['value', 'first', 'second'],
  'valueQuad - rate * firstQuad / (sqrt(factor2 * secondQuad) + epsilon)',
);
