/** Fragment shaders of our own, for what tfjs's programs cannot do: they draw one whole texture. */
import type {GPGPUContext} from '@tensorflow/tfjs-backend-webgl';

export type FragmentProgram = ReturnType<GPGPUContext['createProgram']>;

/** Precisions, as tfjs's programs have them; the first lines of a fragment shader. */
export const fragmentHeader = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;`;

export function buildFragmentProgram(gpgpu: GPGPUContext, source: string): FragmentProgram {
  const {gl} = gpgpu;
  const shader = gl.createShader(gl.FRAGMENT_SHADER) as WebGLShader;
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) {
    throw new Error(`A fragment shader does not compile: ${gl.getShaderInfoLog(shader)}\n${source}`);
  }
  const program = gpgpu.createProgram(shader);
  gpgpu.buildVao(program);
  return program;
}
