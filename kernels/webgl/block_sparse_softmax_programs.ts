/**
 * Programs of the softmax over live blocks, and of its backward pass. Each takes two: one that makes statistics of rows, a
 * texel for two rows of one row of blocks, and one that makes the elements from them. Values are
 * [batch, nnz, rowSize, colSize]; no quad of them straddles two blocks.
 */
import {HIDDEN_BELOW} from '../../src/kernel_names.js';
import {indexAccess} from './index_textures.js';
import type {PackedProgram} from './packed_program.js';
import {texel, texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** Uniforms of every program. */
export const softmaxUniforms = [
  {name: 'batch', type: 'int'},
  // Rows of blocks, over all heads and of one head.
  {name: 'lists', type: 'int'},
  {name: 'rowBlocks', type: 'int'},
  {name: 'nnz', type: 'int'},
  {name: 'rowSize', type: 'int'},
  {name: 'colSize', type: 'int'},
  // Row i stands over column i + diagonal.
  {name: 'diagonal', type: 'int'},
  {name: 'scale', type: 'float'},
  // What hidden elements count as while a maximum is sought; their weight is 0 in any case.
  {name: 'hiddenScore', type: 'float'},
] as const;

const maskFunctions = `
// Which elements of a quad lie beyond their block.
bvec4 outsideBlock(int pair, int column) {
  return outside(pair, column / 2, rowSize, colSize);
}

bvec4 either(bvec4 a, bvec4 b) {
  return bvec4(a.x || b.x, a.y || b.y, a.z || b.z, a.w || b.w);
}`;

/** GLSL that says which elements are hidden; `blockColumn` is the column of blocks that they are in. */
const hiddenFunction = (causal: boolean) => `
bvec4 hiddenIn(vec4 values4, int list, int pair, int blockColumn, int column) {
  bvec4 hidden = either(lessThan(values4, vec4(${HIDDEN_BELOW})), outsideBlock(pair, column));
  ${
    causal
      ? `ivec4 columns = blockColumn * colSize + column + ivec4(0, 1, 0, 1);
  ivec4 rows = list % rowBlocks * rowSize + 2 * pair + ivec4(0, 0, 1, 1);
  hidden = either(hidden, greaterThan(columns, rows + diagonal));`
      : ''
  }
  return hidden;
}`;

/** GLSL that goes through the quads of a pair of rows: `body` sees those of the textures, and `blockColumn`, `column`. */
function overRowPair(textures: string[], readsColumns: boolean, body: string): string {
  const start = '((entry * nnz + block) * pairs(rowSize) + pair) * pairs(colSize)';
  const walks = textures.map((texture) => texelWalk(texture, texture, start, '1'));
  const fetches = walks.map(({fetch}, i) => `vec4 ${textures[i]}4 = ${fetch};`).join(' ');
  return `
  {
    ${walks.map(({declareStep}) => declareStep).join('\n    ')}
    for (int block = range.x; block < range.y; block++) {
      ${walks.map(({declareStart}) => declareStart).join('\n      ')}
      int blockColumn = ${readsColumns ? `indices(${texel('places', 'block')}).y` : '0'};
      int column = 0;
      ${walkTogether(walks, 'pairs(colSize)', `${fetches} ${body} column += 2;`)}
    }
  }`;
}

/** A program that makes the statistics of two rows, [batch · lists, rowSize, 2]. */
function rowProgram(inputs: string[], functions: string, body: string): PackedProgram {
  return {
    inputs: [...inputs, 'offsets'],
    code: `
${textureAccess}
${indexAccess}
${maskFunctions}
${functions}
void main() {
  int number = outputTexel();
  int pair = number % pairs(rowSize);
  int list = number / pairs(rowSize) % lists;
  int entry = number / pairs(rowSize) / lists;
  // Textures may be larger than what they hold.
  if (entry >= batch) { setOutput(vec4(0.0)); return; }
  ivec2 range = indices(${texel('offsets', 'list')});
  ${body}
}`,
  };
}

/** A program that makes values, a quad at a time: `quad` is computed from the statistics of its rows, `rows4`. */
function elementProgram(inputs: string[], functions: string, hidden: string, quad: string): PackedProgram {
  return {
    inputs: [...inputs, 'rows', 'places'],
    code: `
${textureAccess}
${indexAccess}
${maskFunctions}
${functions}
void main() {
  int number = outputTexel();
  int column = 2 * (number % pairs(colSize));
  int pair = number / pairs(colSize) % pairs(rowSize);
  int matrix = number / pairs(colSize) / pairs(rowSize);
  if (matrix >= batch * nnz) { setOutput(vec4(0.0)); return; }
  ivec2 position = indices(${texel('places', 'matrix % nnz')});
  int list = position.x;
  vec4 rows4 = ${texel('rows', '(matrix / nnz * lists + list) * pairs(rowSize) + pair')};
  ${inputs.map((input) => `vec4 ${input}4 = ${texel(input, 'number')};`).join('\n  ')}
  setOutput(mix(${quad}, vec4(0.0), ${hidden}));
}`,
  };
}

/** (maximum, sum of exp(score − maximum)) of both rows. */
export function softmaxRowProgram(causal: boolean): PackedProgram {
  const hidden = 'hiddenIn(values4, list, pair, blockColumn, column)';
  return rowProgram(
    ['values', ...(causal ? ['places'] : [])],
    hiddenFunction(causal),
    `
  vec2 maximum = vec2(hiddenScore);
  ${overRowPair(
    ['values'],
    causal,
    `vec4 scores = mix(scale * values4, vec4(hiddenScore), ${hidden});
      maximum = max(maximum, max(scores.xz, scores.yw));`,
  )}
  vec2 sum = vec2(0.0);
  ${overRowPair(
    ['values'],
    causal,
    `vec4 weights = mix(exp(scale * values4 - maximum.xxyy), vec4(0.0), ${hidden});
      sum += weights.xz + weights.yw;`,
  )}
  setOutput(vec4(maximum.x, sum.x, maximum.y, sum.y));`,
  );
}

export function softmaxProgram(causal: boolean): PackedProgram {
  return elementProgram(
    ['values'],
    hiddenFunction(causal),
    'hiddenIn(values4, list, pair, position.y, column)',
    'exp(scale * values4 - rows4.xxzz) / rows4.yyww',
  );
}

/** (Σ P∘dP, 0) of both rows. */
export function softmaxBackwardRowProgram(): PackedProgram {
  return rowProgram(
    ['probabilities', 'dProbabilities'],
    '',
    `
  vec2 sum = vec2(0.0);
  ${overRowPair(
    ['probabilities', 'dProbabilities'],
    false,
    `vec4 products = mix(probabilities4 * dProbabilities4, vec4(0.0), outsideBlock(pair, column));
      sum += products.xz + products.yw;`,
  )}
  setOutput(vec4(sum.x, 0.0, sum.y, 0.0));`,
  );
}

export function softmaxBackwardProgram(): PackedProgram {
  return elementProgram(
    ['probabilities', 'dProbabilities'],
    '',
    'outsideBlock(pair, column)',
    'probabilities4 * (dProbabilities4 - rows4.xxzz)',
  );
}
