/** Programs over packed textures, compiled once for all shapes. */
import type {GPGPUProgram, MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';

/** A program: the textures it reads, by variable name, and its GLSL. */
export interface PackedProgram {
  inputs: readonly string[];
  code: string;
}

/** A uniform of a program. */
export interface Uniform {
  name: string;
  type: 'int' | 'float' | 'ivec4';
}

export type Textures = Readonly<Record<string, TensorInfo | undefined>>;

/** Runs the program; `values` are those of the uniforms, in their order. */
export function runPackedProgram(
  backend: MathBackendWebGL,
  {inputs, code}: PackedProgram,
  outputShape: number[],
  textures: Textures,
  uniforms: readonly Uniform[],
  values: number[][],
): TensorInfo {
  const program: GPGPUProgram = {
    variableNames: [...inputs],
    outputShape,
    userCode: code,
    packedInputs: true,
    packedOutput: true,
    // Shapes as uniforms: one compiled program for all of them.
    enableShapeUniforms: true,
    customUniforms: [...uniforms],
  };
  const tensors = inputs.map((name) => textures[name] as TensorInfo);
  return backend.runWebGLProgram(program, tensors, 'float32', values, true);
}
