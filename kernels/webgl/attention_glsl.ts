/**
 * GLSL that the attention programs share: uniforms, where the matrices lie in their textures, which keys a query sees,
 * scores and dropout.
 */
import type {AttentionOrder} from '../../src/kernel_names.js';
import {HIDDEN_BELOW} from '../../src/kernel_names.js';
import {swapIf} from '../block_sparse_sizes.js';
import type {PackedProgram} from './packed_program.js';
import {forEachQuad, lanes, quadCount, type RegisterTile, registerTileFunction} from './register_tiles_glsl.js';
import {texel, texelWalk, textureAccess, type Walk, walkTogether} from './textures_glsl.js';
import {tileFunctions} from './tiles_glsl.js';

/** What a program is compiled for. Sizes, strides and option values are uniforms instead. */
export interface AttentionVariant {
  /** Of the matrices that programs read: calls with large register tiles make copies in BHSD order first. */
  order: AttentionOrder;
  bias: boolean;
  mask: boolean;
  slopes: boolean;
  queryLengths: boolean;
  keyLengths: boolean;
  softcap: boolean;
  dropout: boolean;
  layout: boolean;
  /** The register tiles of scores and of results with a row per query (register_tiles_glsl.ts). */
  tile: RegisterTile;
}

/** Uniforms of every program, filled by `uniformValues` in attention_run.ts in this order. */
export const attentionUniforms = [
  {name: 'batch', type: 'int'},
  {name: 'heads', type: 'int'},
  {name: 'keyHeads', type: 'int'},
  {name: 'queries', type: 'int'},
  {name: 'keys', type: 'int'},
  {name: 'depth', type: 'int'},
  {name: 'valueDepth', type: 'int'},
  // Keys before and after the diagonal that a query sees.
  {name: 'left', type: 'int'},
  {name: 'right', type: 'int'},
  {name: 'slopeBatches', type: 'int'},
  // Bits of unsigned integers, for which tfjs has no uniforms.
  {name: 'dropoutSeed', type: 'int'},
  {name: 'dropoutThreshold', type: 'int'},
  {name: 'dropoutFactor', type: 'float'},
  {name: 'scale', type: 'float'},
  {name: 'softcap', type: 'float'},
  // The score of a hidden key, and where the running maximum of a row starts: below every visible score.
  {name: 'hiddenScore', type: 'float'},
  {name: 'lowestMaximum', type: 'float'},
  {name: 'biasSizes', type: 'ivec4'},
  {name: 'maskSizes', type: 'ivec4'},
  // The keys that the chunk textures stand for; chunkStart is even.
  {name: 'chunkStart', type: 'int'},
  {name: 'chunkKeys', type: 'int'},
  {name: 'isLastChunk', type: 'int'},
  // The chunk's tiles (tiles_glsl.ts): how many each entry has, their size, and their grid.
  {name: 'tileCount', type: 'int'},
  {name: 'tileQueries', type: 'int'},
  {name: 'tileKeys', type: 'int'},
  {name: 'tileRows', type: 'int'},
  {name: 'tileColumns', type: 'int'},
  // The layout: how many heads have a pattern of their own, and the size of its blocks.
  {name: 'patterns', type: 'int'},
  {name: 'blockQueries', type: 'int'},
  {name: 'blockKeys', type: 'int'},
] as const;

/** A texture that a program reads: its variable, and which optional one it stands for. */
export type OptionalInput = 'bias' | 'mask' | 'alibiSlopes' | 'queryLengths' | 'keyLengths';

/** Inputs that `makeHead` reads. */
export function headInputs(variant: AttentionVariant): OptionalInput[] {
  const inputs: OptionalInput[] = [];
  if (variant.slopes) inputs.push('alibiSlopes');
  if (variant.queryLengths) inputs.push('queryLengths');
  if (variant.keyLengths) inputs.push('keyLengths');
  return inputs;
}

/** Inputs that `scoresOf` reads beyond those of `makeHead`. */
export function scoreInputs(variant: AttentionVariant): OptionalInput[] {
  const inputs: OptionalInput[] = [];
  if (variant.bias) inputs.push('bias');
  if (variant.mask) inputs.push('mask');
  return inputs;
}

/** GLSL struct `Head`: one query head of one sample, and what its rows may see. */
export function headFunctions(
  variant: Pick<AttentionVariant, 'layout' | 'slopes' | 'queryLengths' | 'keyLengths'>,
): string {
  const perSample = (input: OptionalInput, size: string) => `
int ${input}Of(int sampleIndex) {
  vec4 quad = ${texel(input, 'sampleIndex / 2')};
  return clamp(int(round(quad[sampleIndex % 2])), 0, ${size});
}`;
  const slopeFunction = `
float slopeOf(int sampleIndex, int head) {
  int row = slopeBatches > 1 ? sampleIndex : 0;
  vec4 quad = ${texel('alibiSlopes', '(row / 2) * pairs(heads) + head / 2')};
  return quad[2 * (row % 2) + head % 2];
}`;
  return `
${textureAccess}
${registerTileFunction}
${variant.slopes ? slopeFunction : ''}
${variant.queryLengths ? perSample('queryLengths', 'queries') : ''}
${variant.keyLengths ? perSample('keyLengths', 'keys') : ''}

struct Head {
  int index;
  int sampleIndex;
  int head;
  int keyHead;
  int queryLength;
  int keyLength;
  // Query i stands over key i + diagonal.
  int diagonal;
  float slope;
};

Head makeHead(int index) {
  int sampleIndex = index / heads;
  int head = index % heads;
  int queryLength = ${variant.queryLengths ? 'queryLengthsOf(sampleIndex)' : 'queries'};
  int keyLength = ${variant.keyLengths ? 'keyLengthsOf(sampleIndex)' : 'keys'};
  float slope = ${variant.slopes ? 'slopeOf(sampleIndex, head)' : '0.0'};
  return Head(
    index, sampleIndex, head, head / (heads / keyHeads), queryLength, keyLength, keyLength - queryLength, slope);
}

// The keys [x, y) that at least one of the queries [first, last] sees.
ivec2 visibleKeys(Head head, int first, int last) {
  return ivec2(
    max(first + head.diagonal - left, 0),
    min(min(last, head.queryLength - 1) + head.diagonal + right + 1, head.keyLength));
}

// The queries [x, y) that see at least one of the keys [first, last].
ivec2 visibleQueries(Head head, int first, int last) {
  return ivec2(
    max(first - head.diagonal - right, 0),
    min(min(last, head.keyLength - 1) - head.diagonal + left + 1, head.queryLength));
}

// How far the keys of a quad are ahead of the diagonal.
ivec4 aheadOf(Head head, int query, int key) {
  return key - query - head.diagonal + ivec4(0, 1, -1, 0);
}
${tileFunctions(variant)}`;
}

/** Which matrix: its texture's variable. Outputs of the forward pass are `o`, their gradients `dO`. */
export type Operand = 'q' | 'k' | 'v' | 'o' | 'dO';
const ROWS_ARE_KEYS: ReadonlySet<Operand> = new Set<Operand>(['k', 'v']);
const HAS_DEPTH_OF_KEYS: ReadonlySet<Operand> = new Set<Operand>(['q', 'k']);

export function rowsOf(operand: Operand): 'queries' | 'keys' {
  return placeOfOperand(operand).rows;
}

export function depthOf(operand: Operand): 'depth' | 'valueDepth' {
  return HAS_DEPTH_OF_KEYS.has(operand) ? 'depth' : 'valueDepth';
}

/** Uniforms of its sides, and GLSL of which head of it belongs to `head`. */
function placeOfOperand(operand: Operand) {
  return ROWS_ARE_KEYS.has(operand)
    ? ({rows: 'keys', headCount: 'keyHeads', head: 'head.keyHead'} as const)
    : ({rows: 'queries', headCount: 'heads', head: 'head.head'} as const);
}

/**
 * A walk over quads of a matrix of a head, from (row, column) along two rows, or down, so many pairs of rows at a time:
 * `row` is even, `column` counts quads. In BSHD order a texel holds two heads of one row, so each quad takes two fetches.
 * `name` is that of its variables.
 */
export function quadWalk(
  {order}: Pick<AttentionVariant, 'order'>,
  operand: Operand,
  direction: 'along' | {down: number},
  row: string,
  column: string,
  name: string = operand,
): Walk {
  const {rows, headCount, head} = placeOfOperand(operand);
  const quads = `pairs(${depthOf(operand)})`;
  if (order === 'BHSD') {
    const rowPair = `(head.sampleIndex * ${headCount} + ${head}) * pairs(${rows}) + (${row}) / 2`;
    const step = direction === 'along' ? '1' : `${direction.down} * ${quads}`;
    return texelWalk(operand, name, `(${rowPair}) * ${quads} + ${column}`, step);
  }
  const rowTexels = `pairs(${headCount}) * ${quads}`;
  const start = `(head.sampleIndex * ${rows} + (${row})) * ${rowTexels} + (${head} / 2) * ${quads} + ${column}`;
  const step = direction === 'along' ? '1' : `${2 * direction.down} * ${rowTexels}`;
  const first = texelWalk(operand, name, start, step);
  const second = texelWalk(operand, `${name}Next`, `${start} + ${rowTexels}`, step);
  return {
    declare: `${first.declare}
  ${second.declare}`,
    fetch: `vec4(halfOf(${first.fetch}, ${head}), halfOf(${second.fetch}, ${head}))`,
    advance: `${first.advance} ${second.advance}`,
    advanceStraight: `${first.advanceStraight} ${second.advanceStraight}`,
    wrap: `${first.wrap} ${second.wrap}`,
    isStraight: (steps) => `${first.isStraight(steps)} && ${second.isStraight(steps)}`,
  };
}

/**
 * GLSL statements that declare `${name}${i}`, the texel of a texture of two numbers per row that belongs to the two rows of
 * quads (i, ·) of a register tile, which begins at `query`.
 */
export function declareRowTexels({tile}: AttentionVariant, name: string, input: string): string {
  return lanes(tile.down)
    .map((i) => `vec4 ${name}${i} = ${texel(input, `headIndex * pairs(queries) + query / 2 + ${i}`)};`)
    .join('\n  ');
}

/**
 * The texture from which scores take the rows of a matrix, as columns of their own: where register tiles are large a
 * transposed copy, [B, Hk, D, Sk], in which fragments beside one another find theirs side by side.
 */
export function columnsInput({tile}: AttentionVariant, operand: 'k' | 'v'): string {
  return quadCount(tile) === 1 ? operand : `${operand}Transposed`;
}

/** A walk along row pair `row` of such a matrix, over pairs of its columns. */
function columnsWalk(variant: AttentionVariant, operand: 'k' | 'v', row: string, name: string): Walk {
  if (quadCount(variant.tile) === 1) return quadWalk(variant, operand, 'along', row, '0', name);
  const matrix = 'head.sampleIndex * keyHeads + head.keyHead';
  const start = `(${matrix}) * pairs(${depthOf(operand)}) * pairs(keys) + (${row}) / 2`;
  return texelWalk(columnsInput(variant, operand), name, start, 'pairs(keys)');
}

/** Copies a matrix of the call into BHSD order, [B, H, S, D], or transposed, [B, H, D, S]. */
export function copyProgram(order: AttentionOrder, operand: Operand, isTransposed: boolean): PackedProgram {
  const {rows, headCount} = placeOfOperand(operand);
  const depth = depthOf(operand);
  const [outer, inner] = swapIf(isTransposed, [`pairs(${rows})`, `pairs(${depth})`]);
  const [row, column] = swapIf(isTransposed, [`rowPair % ${outer}`, `index % ${inner}`]);
  const quad = quadWalk({order}, operand, 'along', 'row', 'column');
  return {
    inputs: [operand],
    code: `
${headFunctions({layout: false, slopes: false, queryLengths: false, keyLengths: false})}
void main() {
  int index = outputTexel();
  int rowPair = index / ${inner};
  int row = 2 * (${row});
  int column = ${column};
  int matrix = rowPair / ${outer};
  if (matrix >= batch * ${headCount}) { setOutput(vec4(0.0)); return; }
  // The first of the heads that share it.
  Head head = makeHead(matrix * (heads / ${headCount}));
  ${quad.declare}
  setOutput(${quad.fetch}${isTransposed ? '.xzyw' : ''});
}`,
  };
}

/**
 * GLSL statements that declare the dot products `${name}${i}${j}` of the rows of `left` with rows of `right` that a register
 * tile has from these on, over the whole head dimension. Where that is odd the last quads hold a column of padding, whose
 * content nobody vouches for.
 */
export function dotProducts(
  variant: AttentionVariant,
  name: string,
  left: {operand: 'q' | 'dO'; row: string},
  right: {operand: 'k' | 'v'; row: string},
): string {
  const {tile} = variant;
  const leftWalks = lanes(tile.down).map((i) =>
    quadWalk(variant, left.operand, 'along', `${left.row} + ${2 * i}`, '0', `${left.operand}${i}`),
  );
  const rightWalks = lanes(tile.across).map((j) =>
    columnsWalk(variant, right.operand, `${right.row} + ${2 * j}`, `${right.operand}${j}`),
  );
  const walks = [...leftWalks, ...rightWalks];
  const depth = depthOf(left.operand);
  const fetchAll = [
    ...leftWalks.map(({fetch}, i) => `vec4 a${i} = ${fetch};`),
    ...rightWalks.map(({fetch}, j) => `vec4 b${j} = ${fetch};`),
  ].join('\n    ');
  const [firstColumn, secondColumn] = quadCount(tile) === 1 ? ['xzxz', 'ywyw'] : ['xyxy', 'zwzw'];
  const first = (i: number, j: number) => `a${i}.xxzz * b${j}.${firstColumn}`;
  const second = (i: number, j: number) => `a${i}.yyww * b${j}.${secondColumn}`;
  return `
  ${forEachQuad(tile, (ij) => `vec4 ${name}${ij} = vec4(0.0);`)}
  {
  ${walks.map(({declare}) => declare).join('\n  ')}
  ${walkTogether(
    walks,
    `${depth} / 2`,
    `${fetchAll}
    ${forEachQuad(tile, (ij, i, j) => `${name}${ij} += ${first(i, j)} + ${second(i, j)};`)}`,
  )}
  if (${depth} % 2 == 1) {
    ${fetchAll}
    ${forEachQuad(tile, (ij, i, j) => `${name}${ij} += ${first(i, j)};`)}
  }
  }`;
}

/** GLSL `scoresOf(head, dots, query, key)`: a quad of scores from a quad of dot products; hidden ones are hiddenScore. */
export function scoreFunctions(variant: AttentionVariant): string {
  const broadcast = (input: 'bias' | 'mask', shape: string) => `
// The quad of ${input} at (query, key), repeated along axes of size 1.
vec4 ${input}Of(Head head, int query, int key) {
  ivec4 at = min(ivec4(head.sampleIndex, head.head, query, key), ${shape} - 1);
  int rowPair = (at.x * ${shape}.y + at.y) * pairs(${shape}.z) + at.z / 2;
  vec4 quad = ${texel(input, `rowPair * pairs(${shape}.w) + at.w / 2`)};
  if (${shape}.z == 1) { quad = quad.xyxy; }
  if (${shape}.w == 1) { quad = quad.xxzz; }
  return quad;
}`;
  return `
${variant.softcap ? tanhFunction : ''}
${variant.bias ? broadcast('bias', 'biasSizes') : ''}
${variant.mask ? broadcast('mask', 'maskSizes') : ''}
vec4 scoresOf(Head head, vec4 dots, int query, int key) {
  ivec4 ahead = aheadOf(head, query, key);
  vec4 scores = ${variant.softcap ? 'softcap * tanhQuad(dots * (scale / softcap))' : 'dots * scale'};
  ${variant.slopes ? 'scores -= head.slope * vec4(abs(ahead));' : ''}
  ${variant.bias ? 'scores += biasOf(head, query, key);' : ''}
  bvec4 hidden = bvec4(
    ${['x', 'y', 'z', 'w'].map((c) => `ahead.${c} < -left || ahead.${c} > right`).join(',\n    ')});
  if (key + 1 >= head.keyLength) { hidden = bvec4(hidden.x || key >= head.keyLength, true, hidden.z || key >= head.keyLength, true); }
  if (query + 1 >= head.queryLength) { hidden.zw = bvec2(true); }
  if (query >= head.queryLength) { hidden.xy = bvec2(true); }
  scores = mix(scores, vec4(hiddenScore), hidden);
  ${variant.bias ? `scores = mix(scores, vec4(hiddenScore), lessThan(scores, vec4(${HIDDEN_BELOW})));` : ''}
  ${variant.mask ? 'scores = mix(scores, vec4(hiddenScore), equal(maskOf(head, query, key), vec4(0.0)));' : ''}
  return scores;
}`;
}

/** The built-in tanh overflows on some drivers and is coarse on others. */
export const tanhFunction = `
vec4 tanhQuad(vec4 x) {
  // tanh x = x + x³·P(x²) (Cephes, tanhf): near 0 the exponential would lose what makes the difference from 1.
  vec4 z = x * x;
  vec4 odd = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z
    - 3.33332819422e-1) * z * x + x;
  vec4 e = exp(2.0 * min(abs(x), vec4(20.0)));
  return mix(sign(x) * (1.0 - 2.0 / (e + 1.0)), odd, lessThan(abs(x), vec4(0.625)));
}`;

/** GLSL `keptOf(head, query, key)`: which of a quad's probabilities dropout keeps (kernels/cpu/dropout.ts). */
export function dropoutFunctions(variant: AttentionVariant): string {
  if (!variant.dropout) return '';
  return `
uvec4 dropoutBits(Head head, int query, int keyQuad) {
  uvec4 v = uvec4(uint(keyQuad), uint(query), uint(head.index), uint(dropoutSeed)) * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> 16u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}

bvec4 keptOf(Head head, int query, int key) {
  uvec4 above = dropoutBits(head, query, key / 4);
  uvec4 below = dropoutBits(head, query + 1, key / 4);
  uvec4 bits = key % 4 == 0 ? uvec4(above.xy, below.xy) : uvec4(above.zw, below.zw);
  return greaterThanEqual(bits, uvec4(uint(dropoutThreshold)));
}`;
}
