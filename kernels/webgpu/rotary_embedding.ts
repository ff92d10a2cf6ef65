/** The WebGPU kernel of rotary position embedding, in one dispatch. */
import type {WebGPUBackend} from '@tensorflow/tfjs-backend-webgpu';
import type {RotaryEmbeddingAttrs} from '../../src/kernel_names.js';
import {type RotarySizes, rotaryEmbeddingKernel, rotarySizes} from '../rotary_embedding_kernels.js';
import {assertBufferFits} from './buffer_limits.js';
import {dispatch} from './dispatch.js';
import {type Binding, entryPoint, makeShader, type Shader} from './shader.js';

const THREADS = 64;

/** A unit is what one load brings: four neighbouring elements where the halves of a head are whole fours, else one. */
type UnitSize = 1 | 4;

export const webgpuRotaryEmbedding = rotaryEmbeddingKernel('webgpu', (inputs, attrs, kernelBackend) => {
  const backend = kernelBackend as WebGPUBackend;
  const {x, table} = inputs;
  for (const [name, {shape}] of Object.entries({x, 'the table': table})) {
    assertBufferFits(backend.device, 'rotaryEmbedding', name, shape);
  }
  const sizes = rotarySizes(inputs);
  const unitSize = sizes.depth % 8 === 0 ? 4 : 1;
  const turned = backend.makeTensorInfo(x.shape, 'float32');
  dispatch(backend, {
    key: `rotary embedding ${unitSize}`,
    makeShader: () => rotaryShader(unitSize),
    tensors: {x, table, turned},
    uniforms: rotaryParams(sizes, attrs, unitSize),
    workgroups: Math.ceil((sizes.tokens * sizes.heads * sizes.depth) / (2 * unitSize) / THREADS),
  });
  return turned;
});

/** Fills the struct Params of the shader, field by field. */
function rotaryParams(
  {tokens, sequence, heads, depth}: RotarySizes,
  {first, inverse}: RotaryEmbeddingAttrs,
  unitSize: UnitSize,
): ArrayBuffer {
  const params = new DataView(new ArrayBuffer(24));
  [tokens * heads, sequence, heads, depth / 2 / unitSize, first].forEach((value, i) => {
    params.setUint32(4 * i, value, true);
  });
  params.setFloat32(20, inverse ? -1 : 1, true);
  return params.buffer;
}

/** An invocation turns a unit of the first half of a head with its partner in the second. */
function rotaryShader(unitSize: UnitSize): Shader {
  const element = unitSize === 4 ? 'vec4f' : 'f32';
  const bindings: Binding[] = [
    {name: 'x', access: 'read', element},
    {name: 'table', access: 'read', element},
    {name: 'turned', access: 'read_write', element},
  ];
  const paramsStruct = `
struct Params {
  // Heads of all tokens.
  rows: u32,
  sequence: u32,
  heads: u32,
  // Units of half a head.
  half: u32,
  first: u32,
  // Of the angles.
  sign: f32,
}`;
  return makeShader(
    bindings,
    paramsStruct,
    entryPoint(
      THREADS,
      `
  let number = workgroup * ${THREADS}u + localIndex;
  let row = number / params.half;
  if (row >= params.rows) { return; }
  let unit = number % params.half;
  let left = row * 2u * params.half + unit;
  let right = left + params.half;
  let cosines = (params.first + row / params.heads % params.sequence) * 2u * params.half + unit;
  let c = table[cosines];
  let s = table[cosines + params.half] * params.sign;
  turned[left] = x[left] * c - x[right] * s;
  turned[right] = x[right] * c + x[left] * s;`,
    ),
  );
}
