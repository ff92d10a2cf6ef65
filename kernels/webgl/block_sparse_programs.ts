/**
 * Programs of block-sparse products. A sparse matrix is its live blocks, [entries, nnz, rowSize, colSize]; dense ones are
 * [batch, heads, rows, columns]. Where both sides of a block are even, no quad of a dense matrix straddles two blocks, and
 * a quad of the output is a sum of products of quads. Where one is odd, each of its four elements is a sum of its own.
 */
import {swapIf} from '../block_sparse_sizes.js';
import {indexAccess} from './index_textures.js';
import type {PackedProgram} from './packed_program.js';
import {type RepeatedWalk, texel, texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** What a program is compiled for. Sizes are uniforms instead. */
export interface ProductVariant {
  transposeA: boolean;
  transposeB: boolean;
  evenBlocks: boolean;
}

/** Uniforms of every program. */
export const productUniforms = [
  // The product, as in BlockSparseSizes.
  {name: 'batch', type: 'int'},
  {name: 'heads', type: 'int'},
  {name: 'rows', type: 'int'},
  {name: 'inner', type: 'int'},
  {name: 'columns', type: 'int'},
  // The sparse matrix: how many batch entries it has, live blocks of each, and the size of a block.
  {name: 'entries', type: 'int'},
  {name: 'nnz', type: 'int'},
  {name: 'rowSize', type: 'int'},
  {name: 'colSize', type: 'int'},
] as const;

/** Which operand: its texture's variable. Plain `b` is taken, by what tfjs writes into each program. */
export type Operand = 'matrixA' | 'matrixB';

/** GLSL of one matrix of a product: which it is in its texture, its sides as stored, and where a sum begins in it. */
interface Factor {
  operand: Operand;
  transposed: boolean;
  index: string;
  sides: readonly [string, string];
  /** The index along the axis that the output shares. */
  outer: string;
  /** The first index along the axis that is summed over. */
  inner: string;
}

/** The row and the column of these indices in the matrix as it is stored. */
function storedPosition({operand, transposed}: Factor, outer: string, inner: string): [string, string] {
  return swapIf((operand === 'matrixB') !== transposed, [outer, inner]);
}

/** The walk over quads along the inner axis, where indices are even. */
function innerWalk(factor: Factor): RepeatedWalk {
  const {operand, transposed, index, sides} = factor;
  const [row, column] = storedPosition(factor, factor.outer, factor.inner);
  const quads = `pairs(${sides[1]})`;
  const start = `((${index}) * pairs(${sides[0]}) + (${row}) / 2) * ${quads} + (${column}) / 2`;
  const innerIsColumn = (operand === 'matrixA') !== transposed;
  return texelWalk(operand, operand, start, innerIsColumn ? '1' : quads);
}

/** The components of its quad that a quad of products takes, for the first and for the second inner index. */
export function componentsOf({operand, transposed}: Pick<Factor, 'operand' | 'transposed'>): [string, string] {
  if (operand === 'matrixA') return transposed ? ['xxyy', 'zzww'] : ['xxzz', 'yyww'];
  return transposed ? ['xzxz', 'ywyw'] : ['xyxy', 'zwzw'];
}

/** How many inner indices a sum runs over. A side of an even block is known to be even. */
type InnerCount = 'inner' | 'rowSize' | 'colSize';

/** GLSL that adds the products of so many inner indices to `sum`, and what it needs outside of a loop around it. */
function addProducts(
  {evenBlocks}: ProductVariant,
  a: Factor,
  b: Factor,
  count: InnerCount,
): {declare: string; add: string} {
  if (!evenBlocks) {
    const element = (factor: Factor) => {
      const position = storedPosition(factor, factor.outer, `${factor.inner} + k`).join(', ');
      return `${factor.operand}At(${factor.index}, ivec2(${factor.sides.join(', ')}), ${position})`;
    };
    return {declare: '', add: `for (int k = 0; k < ${count}; k++) { sum += ${element(a)} * ${element(b)}; }`};
  }
  const walks = [innerWalk(a), innerWalk(b)];
  const [[firstOfA, secondOfA], [firstOfB, secondOfB]] = [componentsOf(a), componentsOf(b)];
  const fetchBoth = `vec4 a4 = ${walks[0].fetch}; vec4 b4 = ${walks[1].fetch};`;
  const oddEnd = `
    if (inner % 2 == 1) {
      // The second half of the last quads is padding, whose content nobody vouches for.
      ${fetchBoth}
      sum += a4.${firstOfA} * b4.${firstOfB};
    }`;
  return {
    declare: walks.map(({declareStep}) => declareStep).join('\n  '),
    add: `${walks.map(({declareStart}) => declareStart).join('\n    ')}
    ${walkTogether(
      walks,
      `${count} / 2`,
      `${fetchBoth} sum += a4.${firstOfA} * b4.${firstOfB} + a4.${secondOfA} * b4.${secondOfB};`,
    )}
    ${count === 'inner' ? oddEnd : ''}`,
  };
}

const elementAccess = (operand: Operand) => `
float ${operand}At(int index, ivec2 sides, int row, int column) {
  vec4 quad = ${texel(operand, '(index * pairs(sides.x) + (row >> 1)) * pairs(sides.y) + (column >> 1)')};
  vec2 inRow = halfOf(quad, row);
  return (column & 1) == 0 ? inRow.x : inRow.y;
}`;

/**
 * The program that makes matrices [.., rows, columns]: `sum` is the body of a function of (index, row, column), which
 * returns a quad of the matrix with this index where blocks are even, and otherwise an element.
 */
function productProgram(
  {evenBlocks}: ProductVariant,
  indexInputs: string[],
  output: {count: string; rows: string; columns: string},
  sum: string,
): PackedProgram {
  const {count, rows, columns} = output;
  const elements = `
  vec4 quad = vec4(0.0);
  for (int i = 0; i < 4; i++) {
    ivec2 at = ivec2(row + i / 2, column + i % 2);
    if (at.x < ${rows} && at.y < ${columns}) { quad[i] = sumAt(index, at.x, at.y); }
  }
  setOutput(quad);`;
  return {
    inputs: ['matrixA', 'matrixB', ...indexInputs],
    code: `
${textureAccess}
${indexAccess}
${evenBlocks ? '' : elementAccess('matrixA') + elementAccess('matrixB')}
${evenBlocks ? 'vec4' : 'float'} sumAt(int index, int row, int column) {
  ${evenBlocks ? 'vec4 sum = vec4(0.0);' : 'float sum = 0.0;'}
  ${sum}
  return sum;
}

void main() {
  int number = outputTexel();
  int column = 2 * (number % pairs(${columns}));
  int rowPair = number / pairs(${columns});
  int row = 2 * (rowPair % pairs(${rows}));
  int index = rowPair / pairs(${rows});
  // Textures may be larger than what they hold.
  if (index >= ${count}) { setOutput(vec4(0.0)); return; }
  ${evenBlocks ? 'setOutput(sumAt(index, row, column));' : elements}
}`,
  };
}

/**
 * Modes 'dsd' and 'dds'. A row of the output (or a column, if the right matrix is the sparse one) meets the live blocks of
 * one row of blocks: `offsets` says which entries of `blocks` they are, and that the number of each and the row of blocks
 * of the dense matrix that it meets.
 */
export function sparseTimesDenseProgram(variant: ProductVariant, sparse: Operand): PackedProgram {
  const outer = {matrixA: 'row', matrixB: 'column'};
  const extent = {matrixA: 'rows', matrixB: 'columns'};
  const transposed = {matrixA: variant.transposeA, matrixB: variant.transposeB};
  const outerIsRow = (sparse === 'matrixA') !== transposed[sparse];
  const [outerSize, innerSize] = swapIf<'rowSize' | 'colSize'>(!outerIsRow, ['rowSize', 'colSize']);
  const factorOf = (operand: Operand): Factor => {
    const common = {operand, transposed: transposed[operand]};
    if (operand === sparse) {
      const index = 'firstBlock + block.x';
      return {...common, index, sides: ['rowSize', 'colSize'], outer: 'withinBlock', inner: '0'};
    }
    const sides = denseSides(variant)[operand];
    return {...common, index: 'index', sides, outer: outer[operand], inner: `block.y * ${innerSize}`};
  };
  const {declare, add} = addProducts(variant, factorOf('matrixA'), factorOf('matrixB'), innerSize);
  const blocks = texelWalk('blocks', 'blocks', 'range.x', '1');
  const sum = `
  int outerBlock = ${outer[sparse]} / ${outerSize};
  int withinBlock = ${outer[sparse]} - outerBlock * ${outerSize};
  int outerBlocks = ${extent[sparse]} / ${outerSize};
  // Values that the whole batch shares are there once.
  int firstBlock = entries > 1 ? index / heads * nnz : 0;
  ivec2 range = indices(${texel('offsets', 'index % heads * outerBlocks + outerBlock')});
  ${blocks.declare}
  ${declare}
  for (int blocksLeft = range.y - range.x; blocksLeft > 0; blocksLeft--) {
    ivec2 block = indices(${blocks.fetch});
    ${blocks.advance}
    ${add}
  }`;
  const output = {count: 'batch * heads', rows: 'rows', columns: 'columns'};
  return productProgram(variant, ['offsets', 'blocks'], output, sum);
}

/**
 * Mode 'sdd'. `places` says of each live block in which row of blocks it is, counted over all heads, and in which column.
 * An output of one entry is the sum over the batch.
 */
export function sampledProductProgram(variant: ProductVariant): PackedProgram {
  const sides = denseSides(variant);
  const common = {index: 'entry * heads + head', inner: '0'};
  const {declare, add} = addProducts(
    variant,
    {
      ...common,
      operand: 'matrixA',
      transposed: variant.transposeA,
      sides: sides.matrixA,
      outer: 'blockRow * rowSize + row',
    },
    {
      ...common,
      operand: 'matrixB',
      transposed: variant.transposeB,
      sides: sides.matrixB,
      outer: 'blockColumn * colSize + column',
    },
    'inner',
  );
  const sum = `
  ivec2 position = indices(${texel('places', 'index % nnz')});
  int rowBlocks = rows / rowSize;
  int head = position.x / rowBlocks;
  int blockRow = position.x % rowBlocks;
  int blockColumn = position.y;
  int firstEntry = index / nnz;
  int endEntry = entries == 1 ? batch : firstEntry + 1;
  ${declare}
  for (int entry = firstEntry; entry < endEntry; entry++) {
    ${add}
  }`;
  const output = {count: 'entries * nnz', rows: 'rowSize', columns: 'colSize'};
  return productProgram(variant, ['places'], output, sum);
}

/** Rows and columns of dense matrices as they are stored. */
function denseSides({transposeA, transposeB}: ProductVariant): Record<Operand, [string, string]> {
  return {matrixA: swapIf(transposeA, ['rows', 'inner']), matrixB: swapIf(transposeB, ['inner', 'columns'])};
}
