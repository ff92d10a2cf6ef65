/** The WebGL kernel of rotary position embedding, in one pass. A fragment makes two columns of two heads of a token. */
import type {MathBackendWebGL} from '@tensorflow/tfjs-backend-webgl';
import {rotaryEmbeddingKernel, rotarySizes} from '../rotary_embedding_kernels.js';
import {type PackedProgram, runPackedProgram} from './packed_program.js';
import {assertTexturesFit} from './texture_limits.js';
import {setQuadFunction, texel, textureAccess} from './textures_glsl.js';

export const webglRotaryEmbedding = rotaryEmbeddingKernel('webgl', (inputs, {first, inverse}, backend) => {
  const {x, table} = inputs;
  assertTexturesFit('rotaryEmbedding', {x: x.shape, 'the table': table.shape});
  const values = {...rotarySizes(inputs), first, sign: inverse ? -1 : 1};
  return runPackedProgram(
    backend as MathBackendWebGL,
    rotaryProgram,
    x.shape,
    {x, table},
    rotaryUniforms,
    rotaryUniforms.map(({name}) => [values[name]]),
  );
});

const rotaryUniforms = [
  {name: 'tokens', type: 'int'},
  {name: 'sequence', type: 'int'},
  {name: 'heads', type: 'int'},
  {name: 'depth', type: 'int'},
  {name: 'first', type: 'int'},
  // Of the angles.
  {name: 'sign', type: 'float'},
] as const;

const rotaryProgram: PackedProgram = {
  inputs: ['x', 'table'],
  code: `
${textureAccess}
${setQuadFunction}

float ofTable(int position, int column) {
  vec2 columns = halfOf(${texel('table', 'position / 2 * (depth / 2) + column / 2')}, position);
  return (column & 1) == 0 ? columns.x : columns.y;
}

// What a column of two heads turns into; \`headTexel\` is their first texel, and \`own\` what the column holds.
vec2 turned(vec2 own, int headTexel, int column, int position) {
  bool isLeft = column < depth / 2;
  int pair = isLeft ? column : column - depth / 2;
  int other = isLeft ? column + depth / 2 : pair;
  vec2 partner = columnOf(${texel('x', 'headTexel + other / 2')}, other);
  float turn = sign * ofTable(position, depth / 2 + pair);
  return own * ofTable(position, pair) + partner * (isLeft ? -turn : turn);
}

void main() {
  int number = outputTexel();
  int columnPair = number % (depth / 2);
  int headPair = number / (depth / 2);
  int token = headPair / pairs(heads);
  // Textures may be larger than what they hold.
  if (token >= tokens) { setOutput(vec4(0.0)); return; }
  int position = first + token % sequence;
  int headTexel = headPair * (depth / 2);
  vec4 own = ${texel('x', 'number')};
  vec2 left = turned(own.xz, headTexel, 2 * columnPair, position);
  vec2 right = turned(own.yw, headTexel, 2 * columnPair + 1, position);
  setQuad(vec4(left, right).xzyw, 2 * (headPair % pairs(heads)) + 1 < heads, true);
}`,
};
