/** Copies of texels from one packed texture to another. tfjs's programs draw whole textures, so parts have one of their own. */
import type {GPGPUContext, MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import type {TensorInfo} from '@tensorflow/tfjs-core';
import type {RowRange} from '../append_rows_kernels.js';
import {buildFragmentProgram, type FragmentProgram, fragmentHeader} from './fragment_program.js';
import {runPackedProgram} from './packed_program.js';
import {texel, textureAccess} from './textures_glsl.js';

const fragmentShader = `${fragmentHeader}
uniform sampler2D source;
uniform int sourceWidth;
uniform int targetWidth;
// How much further on a texel stands in the target than in the source.
uniform int shift;
out vec4 copied;

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  int index = at.y * targetWidth + at.x - shift;
  copied = texelFetch(source, ivec2(index % sourceWidth, index / sourceWidth), 0);
}`;

const programs = new WeakMap<GPGPUContext, FragmentProgram>();

function programOf(gpgpu: GPGPUContext): FragmentProgram {
  const program = programs.get(gpgpu) ?? buildFragmentProgram(gpgpu, fragmentShader);
  programs.set(gpgpu, program);
  return program;
}

/** Copies ranges of texels; all others of the target stay as they are, and cost nothing. */
export function drawTexels(
  backend: MathBackendWebGL,
  source: TensorInfo,
  target: TensorInfo,
  ranges: RowRange[],
): void {
  const {gpgpu} = backend;
  const {gl} = gpgpu;
  const program = programOf(gpgpu);
  const sourceTexture = backend.getTexture(source.dataId);
  const targetTexture = backend.getTexture(target.dataId);
  const [sourceShape, targetShape] = [source, target].map(
    ({dataId}) => backend.texData.get(dataId).texShape as [rows: number, columns: number],
  );
  const targetWidth = Math.ceil(targetShape[1] / 2);
  const uniform = (name: string) => gpgpu.getUniformLocation(program, name);

  gpgpu.setOutputPackedMatrixTexture(targetTexture, ...targetShape);
  gpgpu.setProgram(program);
  gpgpu.bindVertexArray(program.vao);
  gpgpu.setInputMatrixTexture(sourceTexture, uniform('source'), 0);
  gl.uniform1i(uniform('sourceWidth'), Math.ceil(sourceShape[1] / 2));
  gl.uniform1i(uniform('targetWidth'), targetWidth);
  for (const range of ranges) {
    gl.uniform1i(uniform('shift'), range.target - range.source);
    for (const {x, y, width, height} of rectangles(range.target, range.count, targetWidth)) {
      gpgpu.setOutputMatrixWriteRegion(y, height, x, width);
      gpgpu.executeProgram();
    }
  }
}

export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Texels [start, start + count) of a texture of this width: what is left of a row, whole rows, and the begin of one. */
export function rectangles(start: number, count: number, width: number): Rectangle[] {
  const parts: Rectangle[] = [];
  const add = (texels: number, height: number) => {
    if (texels * height > 0) parts.push({x: start % width, y: Math.floor(start / width), width: texels, height});
    start += texels * height;
    count -= texels * height;
  };
  if (start % width > 0) add(Math.min(width - (start % width), count), 1);
  add(width, Math.floor(count / width));
  add(count, 1);
  return parts;
}

const copyProgram = {
  inputs: ['source'],
  code: `${textureAccess}
void main() {
  setOutput(${texel('source', 'outputTexel()')});
}`,
};

/** The tensor in a texture of its own, whose texels stand in the order of its shape. */
export function packedCopy(backend: MathBackendWebGL, source: TensorInfo): TensorInfo {
  return runPackedProgram(backend, copyProgram, source.shape, {source}, [], []);
}

/** Gives a tensor that has no texture yet one that is packed as its shape says. */
export function uploadPacked(backend: MathBackendWebGL, {dataId, shape}: TensorInfo): void {
  const data = backend.texData.get(dataId);
  if (data.texture) return;
  data.isPacked = true;
  data.shape = shape;
  backend.uploadToGPU(dataId);
}
