/**
 * Programs of layer normalization and its gradients. x is [matrices, matrixRows, W]; a texel holds two columns of a pair of
 * rows. What is added up along rows or down columns is so in two steps where it is long: sums of chunks, then of these.
 */
import type {PackedProgram} from './packed_program.js';
import {type RepeatedWalk, setQuadFunction, texel, texelWalk, textureAccess, walkTogether} from './textures_glsl.js';

/** Uniforms of every program. */
export const layerNormUniforms = [
  // Pairs of rows, of all matrices.
  {name: 'rowPairs', type: 'int'},
  {name: 'matrixRows', type: 'int'},
  {name: 'width', type: 'int'},
  // Texels of a chunk of a row, and how many chunks a row has.
  {name: 'chunkTexels', type: 'int'},
  {name: 'rowChunks', type: 'int'},
  // Pairs of rows of a chunk of a column, and how many chunks a column has.
  {name: 'chunkPairs', type: 'int'},
  {name: 'columnChunks', type: 'int'},
  {name: 'epsilon', type: 'float'},
] as const;

const functions = `
${textureAccess}
${setQuadFunction}

// Whether the second row of a pair is padding.
bool isSingle(int rowPair) {
  return matrixRows % 2 == 1 && (rowPair + 1) % pairs(matrixRows) == 0;
}

// 1 / √(variance + epsilon) of both rows.
vec2 factorOf(vec2 squares) {
  return 1.0 / sqrt(squares / float(width) + epsilon);
}`;

/** The normalized x of a quad, from its rows' statistics. */
const normalized = '((x4 - stats4.xxzz) * stats4.yyww)';

/** A program that makes two numbers for each of two rows and each chunk of them: `body` sees `rowPair` and `chunk`. */
function rowProgram(inputs: string[], chunks: 'rowChunks' | '1', body: string): PackedProgram {
  return {
    inputs,
    code: `
${functions}
void main() {
  int number = outputTexel();
  int rowPair = number / ${chunks};
  int chunk = number % ${chunks};
  // Textures may be larger than what they hold.
  if (rowPair >= rowPairs) { setOutput(vec4(0.0)); return; }
  ${body}
}`,
  };
}

const enterChunk = `
  int firstTexel = chunk * chunkTexels;
  int wholeTexels = min(chunkTexels, width / 2 - firstTexel);
  bool hasTail = firstTexel + chunkTexels > width / 2 && width % 2 == 1;`;

const chunkElements = 'float(min(2 * chunkTexels, width - 2 * chunkTexels * chunk))';

/** A walk over the texels of the chunk: of a pair of rows, or of a vector as wide. */
function chunkWalk(texture: string, name: string, isVector = false): RepeatedWalk {
  return texelWalk(texture, name, isVector ? 'firstTexel' : 'rowPair * pairs(width) + firstTexel', '1');
}

/** How many numbers are added up to one before that is added to the sum: short sums round less than long ones. */
const PART = 16;

/** GLSL that adds terms to sums, vec2 each, at so many steps of walks; `read` is what the terms need at each step. */
function sumInParts(walks: RepeatedWalk[], count: string, read: string, terms: Record<string, string>): string {
  const each = (line: (sum: string, term: string) => string) =>
    Object.entries(terms)
      .map(([sum, term]) => line(sum, term))
      .join(' ');
  return `
  ${walks.map(({declare}) => declare).join('\n  ')}
  for (int start = 0; start < ${count}; start += ${PART}) {
    ${each((sum) => `vec2 ${sum}Part = vec2(0.0);`)}
    ${walkTogether(walks, `min(${PART}, ${count} - start)`, `${read} ${each((sum, term) => `${sum}Part += ${term};`)}`)}
    ${each((sum) => `${sum} += ${sum}Part;`)}
  }`;
}

/** Adds terms, quads each, to sums of either row, along a chunk of it. */
function sumAlongChunk(walks: RepeatedWalk[], read: string, terms: Record<string, string>): string {
  const names = Object.keys(terms);
  const readTerms = `${read} ${names.map((sum) => `vec4 ${sum}4 = ${terms[sum]};`).join(' ')}`;
  const bothColumns = Object.fromEntries(names.map((sum) => [sum, `${sum}4.xz + ${sum}4.yw`]));
  return `
  ${sumInParts(walks, 'wholeTexels', readTerms, bothColumns)}
  if (hasTail) {
    // The second column is padding, whose content nobody vouches for.
    ${readTerms} ${names.map((sum) => `${sum} += ${sum}4.xz;`).join(' ')}
  }`;
}

/**
 * Of each chunk its mean and the sum of squares of what differs from it, and, where a chunk is a whole row, the row's
 * statistics.
 */
export function chunkMomentsProgram(chunkIsRow: boolean): PackedProgram {
  const [forMean, forSquares] = ['forMean', 'forSquares'].map((name) => chunkWalk('x', name));
  return rowProgram(
    ['x'],
    'rowChunks',
    `
  ${enterChunk}
  vec2 mean = vec2(0.0);
  ${sumAlongChunk([forMean], '', {mean: forMean.fetch})}
  mean /= ${chunkElements};
  vec2 squares = vec2(0.0);
  vec2 rest = vec2(0.0);
  ${sumAlongChunk([forSquares], `vec4 centred = ${forSquares.fetch} - mean.xxyy;`, {
    squares: 'centred * centred',
    rest: 'centred',
  })}
  // With what the mean's own rounding left over.
  mean += rest / ${chunkElements};
  vec2 second = ${chunkIsRow ? 'factorOf(squares)' : 'squares'};
  setOutput(vec4(mean.x, second.x, mean.y, second.y));`,
  );
}

/** GLSL that goes through what was made of the chunks of a pair of rows: `body` sees `chunk` and `chunk4`. */
function eachRowChunk(name: string, body: string): string {
  const walk = texelWalk('chunks', name, 'rowPair * rowChunks', '1');
  return `
  ${walk.declare}
  for (int chunk = 0; chunk < rowChunks; chunk++) {
    vec4 chunk4 = ${walk.fetch};
    ${body}
    ${walk.advance}
  }`;
}

/** The statistics of rows, from the moments of chunks: their squares, and what their means differ by. */
export function rowStatsProgram(): PackedProgram {
  return rowProgram(
    ['chunks'],
    '1',
    `
  vec2 mean = vec2(0.0);
  ${eachRowChunk('forMean', `mean += chunk4.xz * ${chunkElements};`)}
  mean /= float(width);
  vec2 squares = vec2(0.0);
  ${eachRowChunk(
    'forSquares',
    `vec2 apart = chunk4.xz - mean;
    squares += chunk4.yw + apart * apart * ${chunkElements};`,
  )}
  vec2 factor = factorOf(squares);
  setOutput(vec4(mean.x, factor.x, mean.y, factor.y));`,
  );
}

/** With n for the normalized x and g = dy·gamma: of each chunk the sums of g and g·n. */
export function chunkSumsProgram(): PackedProgram {
  const [x, dy, gamma] = [chunkWalk('x', 'x'), chunkWalk('dy', 'dy'), chunkWalk('gamma', 'gamma', true)];
  return rowProgram(
    ['x', 'dy', 'gamma', 'stats'],
    'rowChunks',
    `
  ${enterChunk}
  vec4 stats4 = ${texel('stats', 'rowPair')};
  vec2 sum = vec2(0.0);
  vec2 projection = vec2(0.0);
  ${sumAlongChunk([x, dy, gamma], `vec4 x4 = ${x.fetch}; vec4 g4 = ${dy.fetch} * ${gamma.fetch}.xyxy;`, {
    sum: 'g4',
    projection: `g4 * ${normalized}`,
  })}
  setOutput(vec4(sum.x, projection.x, sum.y, projection.y));`,
  );
}

/** The sums of rows, from those of chunks. */
export function rowSumsProgram(): PackedProgram {
  return rowProgram(
    ['chunks'],
    '1',
    `
  vec4 sum = vec4(0.0);
  ${eachRowChunk('chunk', 'sum += chunk4;')}
  setOutput(sum);`,
  );
}

/** A program that makes a tensor like x: `quad` is computed from the quads of the inputs, `x4` and so on, and the rows'. */
function elementProgram(inputs: string[], rowInputs: string[], vectors: string[], quad: string): PackedProgram {
  return {
    inputs: [...inputs, ...rowInputs, ...vectors],
    code: `
${functions}
void main() {
  int number = outputTexel();
  int column = number % pairs(width);
  int rowPair = number / pairs(width);
  if (rowPair >= rowPairs) { setOutput(vec4(0.0)); return; }
  ${inputs.map((input) => `vec4 ${input}4 = ${texel(input, 'number')};`).join('\n  ')}
  ${rowInputs.map((input) => `vec4 ${input}4 = ${texel(input, 'rowPair')};`).join('\n  ')}
  ${vectors.map((vector) => `vec4 ${vector}4 = ${texel(vector, 'column')}.xyxy;`).join('\n  ')}
  setQuad(${quad}, !isSingle(rowPair), 2 * column + 1 < width);
}`,
  };
}

export function layerNormProgram(): PackedProgram {
  return elementProgram(['x'], ['stats'], ['gamma', 'beta'], `${normalized} * gamma4 + beta4`);
}

/** dx, from the sums of rows. */
export function layerNormBackwardProgram(): PackedProgram {
  const means = (components: string) => `sums4.${components} / float(width)`;
  const quad = `stats4.yyww * (dy4 * gamma4 - ${means('xxzz')} - ${normalized} * ${means('yyww')})`;
  return elementProgram(['x', 'dy'], ['stats', 'sums'], ['gamma'], quad);
}

/** dGamma and dBeta of chunks of columns, one above the other: [columnChunks, 2, W]. */
export function chunkWeightsProgram(): PackedProgram {
  const [x, dy] = ['x', 'dy'].map((texture) =>
    texelWalk(texture, texture, 'firstPair * pairs(width) + column', 'pairs(width)'),
  );
  const stats = texelWalk('stats', 'stats', 'firstPair', '1');
  return {
    inputs: ['x', 'dy', 'stats'],
    code: `
${functions}
void main() {
  int number = outputTexel();
  int column = number % pairs(width);
  int chunk = number / pairs(width);
  if (chunk >= columnChunks) { setOutput(vec4(0.0)); return; }
  int firstPair = chunk * chunkPairs;
  int rowPair = firstPair;
  vec2 ofGamma = vec2(0.0);
  vec2 ofBeta = vec2(0.0);
  ${sumInParts(
    [x, dy, stats],
    'min(chunkPairs, rowPairs - firstPair)',
    `vec4 x4 = ${x.fetch}; vec4 dy4 = ${dy.fetch}; vec4 stats4 = ${stats.fetch};
      vec4 product4 = dy4 * ${normalized};
      if (isSingle(rowPair)) { dy4.zw = vec2(0.0); product4.zw = vec2(0.0); }
      rowPair++;`,
    {ofGamma: 'product4.xy + product4.zw', ofBeta: 'dy4.xy + dy4.zw'},
  )}
  setQuad(vec4(ofGamma, ofBeta), true, 2 * column + 1 < width);
}`,
  };
}

/** dGamma or dBeta, from those of chunks. */
export function weightProgram(name: 'gamma' | 'beta'): PackedProgram {
  const walk = texelWalk('chunks', 'chunk', 'column', 'pairs(width)');
  return {
    inputs: ['chunks'],
    code: `
${functions}
void main() {
  int column = outputTexel();
  if (column >= pairs(width)) { setOutput(vec4(0.0)); return; }
  vec2 sum = vec2(0.0);
  ${sumInParts([walk], 'columnChunks', '', {sum: `${walk.fetch}.${name === 'gamma' ? 'xy' : 'zw'}`})}
  setOutput(vec4(sum, 0.0, 0.0));
}`,
  };
}
