/**
 * Programs of products with block-diagonal matrices: the product, and the gradient of its weights. A fragment makes two
 * rows × two neighbouring columns of the product, or two rows × two columns of one block of the gradient. Both sum over
 * quads of two rows × two elements of a block: texels where these elements stand side by side, and otherwise put together
 * from two texels.
 */
import type {BlockDiagonalMatMulAttrs, BlockOrder} from '../../src/kernel_names.js';
import {swapIf} from '../block_sparse_sizes.js';
import type {PackedProgram} from './packed_program.js';
import {type RepeatedWalk, setQuadFunction, texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** Uniforms of both programs: the sizes, as in BlockDiagonalSizes. */
export const blockDiagonalUniforms = [
  {name: 'batch', type: 'int'},
  {name: 'blocks', type: 'int'},
  {name: 'inner', type: 'int'},
  {name: 'outer', type: 'int'},
] as const;

/** What the program of a product is compiled for. */
export interface BlockDiagonalVariant extends BlockDiagonalMatMulAttrs {
  /** Whether pairs of elements of an input's block are texels: it is 'blocked', and the size of its blocks even. */
  inputPairs: boolean;
  /** Where the two columns of a texel of the output belong. */
  outputColumns: OutputColumns;
}

/**
 * To one block; to two neighbouring blocks of which the input, too, has all elements side by side; or else to any two
 * blocks, each with its own walk over the input.
 */
export type OutputColumns = 'oneBlock' | 'neighbours' | 'apart';

/** What the program of the gradient is compiled for: the orders of x and dy, and whether their pairs are texels. */
export interface BlockDiagonalWeightsVariant {
  input: BlockOrder;
  inputPairs: boolean;
  output: BlockOrder;
  outputPairs: boolean;
}

/** A texture of rows that are divided into blocks. */
interface BlockedRows {
  texture: 'source' | 'gradients';
  order: BlockOrder;
  blockSize: 'inner' | 'outer';
  pairsAreTexels: boolean;
}

/** GLSL of what a sum meets on its way: `declare` takes place before the walks, `quad` reads where they have come to. */
interface QuadWalk {
  declare: string;
  walks: RepeatedWalk[];
  quad: string;
}

/**
 * The walk over quads of elements of one block, from `element` and the one after it in a pair of rows: on to the next two
 * elements, or down to the next two rows. In either order that is a number of whole texels.
 */
function blockWalk(
  {texture, order, blockSize, pairsAreTexels}: BlockedRows,
  name: string,
  {rowPair, block, element}: Record<'rowPair' | 'block' | 'element', string>,
  direction: 'along' | 'down',
): QuadWalk {
  const [start, stride] =
    order === 'blocked' ? [`${block} * ${blockSize} + ${element}`, '1'] : [`${element} * blocks + ${block}`, 'blocks'];
  const rowTexels = `pairs(blocks * ${blockSize})`;
  const walkFrom = (walkName: string, column: string) =>
    texelWalk(
      texture,
      walkName,
      `${rowPair} * ${rowTexels} + ${column} / 2`,
      direction === 'along' ? stride : rowTexels,
    );
  const [column, next] = [`${name}Column`, `${name}Next`];
  const declareColumn = `int ${column} = ${start};`;
  const first = walkFrom(name, column);
  if (pairsAreTexels) return {declare: declareColumn, walks: [first], quad: first.fetch};
  const second = walkFrom(next, `${next}Column`);
  return {
    declare: `${declareColumn} int ${next}Column = ${column} + ${stride};`,
    walks: [first, second],
    quad: `quadOf(columnOf(${first.fetch}, ${column}), columnOf(${second.fetch}, ${next}Column))`,
  };
}

/**
 * GLSL of `sum`, over so many elements or rows in pairs: once `read` has taken place, one term is that of the first of a
 * pair, and the other that of the second.
 */
function sumOverPairs(
  quadWalks: QuadWalk[],
  count: 'inner' | 'batch',
  read: string,
  [first, second]: [string, string],
): string {
  const walks = quadWalks.flatMap((quadWalk) => quadWalk.walks);
  return `
  ${quadWalks.map(({declare}) => declare).join('\n  ')}
  ${walks.map(({declare}) => declare).join('\n  ')}
  vec4 sum = vec4(0.0);
  ${walkTogether(walks, `${count} / 2`, `${read} sum += ${first} + ${second};`)}
  if (${count} % 2 == 1) {
    // The second of the last pair is padding, whose content nobody vouches for.
    ${read}
    sum += ${first};
  }`;
}

const commonFunctions = `
${textureAccess}
${setQuadFunction}
vec4 quadOf(vec2 left, vec2 right) {
  return vec4(left, right).xzyw;
}
`;

/** The product: inputs `source`, which is x, and `weights`. */
export function blockDiagonalProgram(variant: BlockDiagonalVariant): PackedProgram {
  const {output, outputColumns} = variant;
  const source = sourceTerms(variant);
  const left = weightsWalk(variant, 'left');
  const right = weightsWalk(variant, 'right');
  // The weights of the left column for two elements of the input, and those of the right column.
  const weights =
    outputColumns === 'oneBlock'
      ? `vec4 w = ${left.quad};`
      : `vec4 w = vec4(halfOf(${left.quad}, left.y), halfOf(${right.quad}, right.y));`;
  const walks = [...source.walks, left, ...(outputColumns === 'oneBlock' ? [] : [right])];
  const [first, second] = source.terms;
  return {
    inputs: ['source', 'weights'],
    code: `
${commonFunctions}
// The block of a column, and which of its elements that is.
ivec2 blockOf(int column) {
  ${output === 'blocked' ? 'return ivec2(column / outer, column % outer);' : 'return ivec2(column % blocks, column / blocks);'}
}

void main() {
  int number = outputTexel();
  int width = blocks * outer;
  int rowPair = number / pairs(width);
  // Textures may be larger than what they hold.
  if (2 * rowPair >= batch) { setOutput(vec4(0.0)); return; }
  int column = number % pairs(width) * 2;
  ivec2 left = blockOf(column);
  ivec2 right = blockOf(min(column + 1, width - 1));
  ${sumOverPairs(walks, 'inner', `${source.read} ${weights}`, [`${first} * w.xzxz`, `${second} * w.ywyw`])}
  setQuad(sum, 2 * rowPair + 1 < batch, column + 1 < width);
}`,
  };
}

/**
 * The walks over x; `terms` are quads of two rows × the two columns' own element of x, for the first and for the second
 * element of a pair, once `read` has taken place.
 */
function sourceTerms({input, inputPairs, outputColumns}: BlockDiagonalVariant): {
  walks: QuadWalk[];
  read: string;
  terms: [string, string];
} {
  const rows: BlockedRows = {texture: 'source', order: input, blockSize: 'inner', pairsAreTexels: inputPairs};
  const walkOf = (side: 'left' | 'right') =>
    blockWalk(rows, `${side}Source`, {rowPair: 'rowPair', block: `${side}.x`, element: '0'}, 'along');
  const left = walkOf('left');
  if (outputColumns === 'oneBlock') {
    return {walks: [left], read: `vec4 x = ${left.quad};`, terms: ['x.xxzz', 'x.yyww']};
  }
  if (outputColumns === 'neighbours') {
    const [first, second] = left.walks;
    return {walks: [left], read: '', terms: [first.fetch, second.fetch]};
  }
  const right = walkOf('right');
  return {
    walks: [left, right],
    read: `vec4 ofLeft = ${left.quad}; vec4 ofRight = ${right.quad};`,
    terms: ['quadOf(ofLeft.xz, ofRight.xz)', 'quadOf(ofLeft.yw, ofRight.yw)'],
  };
}

/** The walk over weights of an output column and its neighbour in a pair, the rows of its quads, along the inner axis. */
function weightsWalk({transpose}: BlockDiagonalVariant, side: 'left' | 'right'): QuadWalk {
  const [rows, columns] = swapIf(transpose, ['outer', 'inner']);
  const [row, column] = swapIf(transpose, [`${side}.y / 2`, '0']);
  const start = `(${side}.x * pairs(${rows}) + ${row}) * pairs(${columns}) + ${column}`;
  const walk = texelWalk('weights', `${side}Weights`, start, transpose ? 'pairs(outer)' : '1');
  return {declare: '', walks: [walk], quad: transpose ? `${walk.fetch}.xzyw` : walk.fetch};
}

/** The gradient for the weights: inputs `source`, which is x, and `gradients`, which is dy. */
export function blockDiagonalWeightsProgram(variant: BlockDiagonalWeightsVariant): PackedProgram {
  const {input, inputPairs, output, outputPairs} = variant;
  const x = blockWalk(
    {texture: 'source', order: input, blockSize: 'inner', pairsAreTexels: inputPairs},
    'source',
    {rowPair: '0', block: 'block', element: 'i'},
    'down',
  );
  const dy = blockWalk(
    {texture: 'gradients', order: output, blockSize: 'outer', pairsAreTexels: outputPairs},
    'gradients',
    {rowPair: '0', block: 'block', element: 'j'},
    'down',
  );
  const read = `vec4 x = ${x.quad}; vec4 dy = ${dy.quad};`;
  return {
    inputs: ['source', 'gradients'],
    code: `
${commonFunctions}
void main() {
  int number = outputTexel();
  int i = number % pairs(inner) * 2;
  int j = number / pairs(inner) % pairs(outer) * 2;
  int block = number / pairs(inner) / pairs(outer);
  // Textures may be larger than what they hold.
  if (block >= blocks) { setOutput(vec4(0.0)); return; }
  ${sumOverPairs([x, dy], 'batch', read, ['dy.xxyy * x.xyxy', 'dy.zzww * x.zwzw'])}
  setQuad(sum, j + 1 < outer, i + 1 < inner);
}`,
  };
}
