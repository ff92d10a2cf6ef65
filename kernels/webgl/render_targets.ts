/**
 * Programs with several render targets, which tfjs's have not: a fragment makes a texel of each, so that what it fetches
 * serves more results. WebGL 2 promises four; most devices have eight.
 */
import type {GPGPUContext, MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {env, type TensorInfo, util} from '@tensorflow/tfjs-core';
import {buildFragmentProgram, type FragmentProgram, fragmentHeader} from './fragment_program.js';
import type {Textures, Uniform} from './packed_program.js';
import {type Planes, type PlanesProgram, planeShape, targetNames} from './register_tiles_glsl.js';
import {packedCopy, uploadPacked} from './texel_copies.js';

/** A program: the packed textures it reads, by variable name, the outputs that it assigns texels to, and its GLSL. */
interface RenderTargetsProgram {
  inputs: readonly string[];
  targets: readonly string[];
  code: string;
}

interface Compiled {
  program: FragmentProgram;
  locations: Map<string, WebGLUniformLocation | null>;
}

interface OfContext {
  compiled: Map<string, Compiled>;
  /** By how many targets they have. */
  framebuffers: Map<number, WebGLFramebuffer>;
  /** Whether so many targets can be drawn to. */
  supported: Map<number, boolean>;
}

const contexts = new WeakMap<GPGPUContext, OfContext>();

function ofContext(gpgpu: GPGPUContext): OfContext {
  const made = contexts.get(gpgpu) ?? {compiled: new Map(), framebuffers: new Map(), supported: new Map()};
  contexts.set(gpgpu, made);
  return made;
}

/** Replaced by tests, which want to see what is done with fewer. */
export const targetLimits = {most: 8};

/** Whether a fragment can make texels of so many textures: WebGL 2 promises four targets, but not of 32-bit floats. */
export function supportsTargets(backend: MathBackendWebGL, count: number): boolean {
  if (count > targetLimits.most) return false;
  const {gpgpu} = backend;
  const {supported} = ofContext(gpgpu);
  const known = supported.get(count);
  if (known !== undefined) return known;
  const gl = gpgpu.gl as WebGL2RenderingContext;
  const isSupported = count <= gl.getParameter(gl.MAX_DRAW_BUFFERS) && canBeDrawnTo(backend, count);
  supported.set(count, isSupported);
  return isSupported;
}

/** Whether a framebuffer of so many textures of 32-bit floats is complete. */
function canBeDrawnTo(backend: MathBackendWebGL, count: number): boolean {
  const {gpgpu} = backend;
  const {gl} = gpgpu;
  const targets = Array.from({length: count}, () => packedTexture(backend, [2, 2]));
  bindTargets(
    gpgpu,
    targets.map(({dataId}) => backend.getTexture(dataId)),
    1,
    1,
  );
  const isComplete = gl.checkFramebufferStatus(gl.FRAMEBUFFER) === gl.FRAMEBUFFER_COMPLETE;
  for (const target of targets) backend.disposeIntermediateTensorInfo(target);
  return isComplete;
}

/** How many programs have been compiled. */
export function compiledCount({gpgpu}: MathBackendWebGL): number {
  return ofContext(gpgpu).compiled.size;
}

/** Runs the program, compiled once for all shapes, which makes planes of matrices of this shape; `values` are those of the uniforms. */
export function runPlanesProgram(
  backend: MathBackendWebGL,
  {inputs, tile, code}: PlanesProgram,
  shape: number[],
  textures: Textures,
  uniforms: readonly Uniform[],
  values: number[][],
): Planes {
  const program = {inputs, targets: targetNames(tile), code};
  const planes = runRenderTargetsProgram(backend, program, planeShape(shape, tile), textures, uniforms, values);
  return {tile, textures: planes};
}

/** The targets all have this shape. */
function runRenderTargetsProgram(
  backend: MathBackendWebGL,
  program: RenderTargetsProgram,
  shape: number[],
  textures: Textures,
  uniforms: readonly Uniform[],
  values: number[][],
): TensorInfo[] {
  const {gpgpu} = backend;
  const inputs = program.inputs.map((name) => asPacked(backend, textures[name] as TensorInfo));
  const targets = program.targets.map(() => packedTexture(backend, shape));
  const {program: binary, locations} = compiledFor(gpgpu, program, uniforms);
  const [rows, columns] = textureShape(backend, targets[0]);

  bindTargets(
    gpgpu,
    targets.map(({dataId}) => backend.getTexture(dataId)),
    Math.ceil(columns / 2),
    Math.ceil(rows / 2),
  );
  gpgpu.setProgram(binary);
  gpgpu.bindVertexArray(binary.vao);
  const gl = gpgpu.gl as WebGL2RenderingContext;
  const location = (name: string) => locations.get(name) ?? null;
  gl.uniform2i(location('outTexShape'), rows, columns);
  program.inputs.forEach((name, unit) => {
    const {info} = inputs[unit];
    const sampler = location(name);
    if (sampler) gpgpu.setInputMatrixTexture(backend.getTexture(info.dataId), sampler, unit);
    gl.uniform2i(location(`${name}TexShape`), ...textureShape(backend, info));
  });
  uniforms.forEach(({name, type}, i) => {
    if (type === 'int') gl.uniform1iv(location(name), values[i]);
    else if (type === 'float') gl.uniform1fv(location(name), values[i]);
    else gl.uniform4iv(location(name), values[i]);
  });
  gpgpu.executeProgram();
  for (const {info, isCopy} of inputs) if (isCopy) backend.disposeIntermediateTensorInfo(info);
  return targets;
}

/** In matrix elements, of which a texel holds two rows and two columns. */
function textureShape(backend: MathBackendWebGL, {dataId}: TensorInfo): [rows: number, columns: number] {
  return backend.texData.get(dataId).texShape as [number, number];
}

/** A tensor without contents, but with a texture, its own to its makers and readers. */
function packedTexture(backend: MathBackendWebGL, shape: number[]): TensorInfo {
  const info = backend.makeTensorInfo(shape, 'float32');
  const sides = neighbourlySides(shape, env().getNumber('WEBGL_MAX_TEXTURE_SIZE'));
  if (sides) backend.texData.get(info.dataId).texShape = sides;
  uploadPacked(backend, info);
  return info;
}

/** Texels of a row of a texture that patches of fragments go into without waste. */
const LEAST_WIDTH = 32;

/**
 * Sides of a texture, in matrix elements, where texels below one another belong to the same column of a matrix, as far as
 * it goes: GPUs work on patches of 8 × 4 fragments or so, which then fetch the same rows and columns. A fetch takes as long
 * as the cache lines that a patch touches. tfjs would rather put a whole matrix into a row of the texture. Undefined
 * where no such sides are within the limit.
 */
function neighbourlySides(shape: number[], limit: number): [rows: number, columns: number] | undefined {
  const [rows, columns] = shape.slice(-2).map((size) => Math.ceil(size / 2));
  const texelRows = shape.slice(0, -2).reduce((product, size) => product * size, rows);
  const least = Math.max(texelRows / limit, LEAST_WIDTH / columns);
  // Walks down a matrix take a few steps at a time where these end with a row of the texture (textures_glsl.ts).
  const besideEachOther = least <= 1 ? 1 : 4 * Math.ceil(least / 4);
  const width = besideEachOther * columns;
  return width <= limit ? [2 * Math.ceil(texelRows / besideEachOther), 2 * width] : undefined;
}

/** The tensor in a texture that is packed as its shape says: its own, or one that tfjs makes. */
function asPacked(backend: MathBackendWebGL, info: TensorInfo): {info: TensorInfo; isCopy: boolean} {
  uploadPacked(backend, info);
  const data = backend.texData.get(info.dataId);
  if (data.isPacked && !data.slice && sameQuads(data.shape, info.shape)) return {info, isCopy: false};
  return {info: packedCopy(backend, info), isCopy: true};
}

/** Whether the same texels hold a tensor in either shape. */
function sameQuads(stored: number[], shape: number[]): boolean {
  if (util.arraysEqual(stored, shape)) return true;
  if (stored.length < 2 || shape.length < 2) return false;
  const [[storedRows, storedColumns], [rows, columns]] = [stored, shape].map((sides) => sides.slice(-2));
  return storedColumns === columns && (storedRows === rows || (storedRows % 2 === 0 && rows % 2 === 0));
}

function compiledFor(gpgpu: GPGPUContext, program: RenderTargetsProgram, uniforms: readonly Uniform[]): Compiled {
  const {compiled} = ofContext(gpgpu);
  const source = sourceOf(program, uniforms);
  const known = compiled.get(source);
  if (known) return known;
  const binary = buildFragmentProgram(gpgpu, source);
  const names = [
    'outTexShape',
    ...program.inputs.flatMap((name) => [name, `${name}TexShape`]),
    ...uniforms.map(({name}) => name),
  ];
  const {gl} = gpgpu;
  const made = {program: binary, locations: new Map(names.map((name) => [name, gl.getUniformLocation(binary, name)]))};
  compiled.set(source, made);
  return made;
}

function sourceOf({inputs, targets, code}: RenderTargetsProgram, uniforms: readonly Uniform[]): string {
  return `${fragmentHeader}
uniform ivec2 outTexShape;
${inputs.map((name) => `uniform sampler2D ${name};\nuniform ivec2 ${name}TexShape;`).join('\n')}
${uniforms.map(({name, type}) => `uniform ${type} ${name};`).join('\n')}
${targets.map((name, i) => `layout(location = ${i}) out vec4 ${name};`).join('\n')}
${code}`;
}

/** What is drawn next goes to these textures; tfjs binds a framebuffer of its own for each of its programs. */
function bindTargets(gpgpu: GPGPUContext, textures: WebGLTexture[], width: number, height: number): void {
  const gl = gpgpu.gl as WebGL2RenderingContext;
  const {framebuffers} = ofContext(gpgpu);
  const known = framebuffers.get(textures.length);
  const framebuffer = known ?? gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
  const attachments = textures.map((_, i) => gl.COLOR_ATTACHMENT0 + i);
  textures.forEach((texture, i) => {
    gl.framebufferTexture2D(gl.FRAMEBUFFER, attachments[i], gl.TEXTURE_2D, texture, 0);
  });
  if (!known) {
    framebuffers.set(textures.length, framebuffer as WebGLFramebuffer);
    gl.drawBuffers(attachments);
  }
  gl.viewport(0, 0, width, height);
  gl.scissor(0, 0, width, height);
}
