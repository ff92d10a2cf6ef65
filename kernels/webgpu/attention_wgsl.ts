/**
 * WGSL that the attention kernels share: parameters, where tensors lie, which keys a query sees, scores and dropout.
 *
 * Scores are kept in units of log2, so that exp2 and log2 serve where the formulas say exp and log.
 */
import type {AttentionOrder} from '../../src/kernel_names.js';
import {HIDDEN_BELOW, LOWEST_FLOAT32} from '../../src/kernel_names.js';
import type {LayoutVariant} from './live_tiles_wgsl.js';
import {type Binding, makeShader, type Shader} from './shader.js';
import {type TileSizes, threadGrid} from './tile_sizes.js';
import {lines, type Source} from './tile_wgsl.js';

/** What a shader is compiled for. Sequence lengths, strides and option values are uniforms instead. */
export interface AttentionVariant {
  depth: number;
  valueDepth: number;
  order: AttentionOrder;
  bias: boolean;
  mask: boolean;
  /** The head table holds something: slopes or lengths. */
  headTable: boolean;
  softcap: boolean;
  dropout: boolean;
  layout?: LayoutVariant;
}

export const LOG2_E = Math.LOG2E;

export function variantKey(variant: AttentionVariant): string {
  return JSON.stringify(variant);
}

/** A shader whose uniforms are {@link paramsStruct}. */
export function attentionShader(bindings: Binding[], body: string, directives?: string): Shader {
  return makeShader(bindings, paramsStruct, body, directives);
}

/** The score of a hidden key: so low that exp2 of its distance to any {@link FLOOR} is 0, yet finite. */
const HIDDEN = '-3e38';

/** Mirrored by `attentionParams` in attention_params.ts, field by field. */
const paramsStruct = `
struct Params {
  batch: u32,
  heads: u32,
  keyHeads: u32,
  queries: u32,
  keys: u32,
  left: i32,
  right: i32,
  dropoutSeed: u32,
  dropoutThreshold: u32,
  dropoutFactor: f32,
  scale: f32,
  softcap: f32,
  biasStrides: vec4u,
  maskStrides: vec4u,
  // How many tiles there are along the rows and the columns of the score matrix, where a kernel needs to know.
  rowTiles: u32,
  columnTiles: u32,
  // Patterns of the layout (1, or one per head), and its blocks down and across.
  layoutHeads: u32,
  layoutRows: u32,
  layoutColumns: u32,
  // Where rows of tiles are cut into parts (long_rows.ts): what there is of each.
  turns: u32,
  slots: u32,
  cutRows: u32,
  // Where a dispatch takes a group of matrices (stored_gradient.ts): its first, else 0, and how many.
  firstMatrix: u32,
  groupMatrices: u32,
  // What is stored of each of their heads: tiles of a row of tiles, those before the diagonal of a band, and all.
  storedPitch: u32,
  storedBefore: u32,
  storedTiles: u32,
  // Score matrices that take turns side by side (tiled_work.ts).
  abreast: u32,
}

const hiddenScore = ${HIDDEN};`;

/** Where the running maximum of a row starts: above {@link HIDDEN}, below every visible score. */
export const FLOOR = '-1e37';

/** Which matrix, and whether its rows are queries or keys. */
export type Operand = 'q' | 'k' | 'v' | 'output' | 'dOutput' | 'dq' | 'dk' | 'dv';
const ROWS_ARE_KEYS: ReadonlySet<Operand> = new Set<Operand>(['k', 'v', 'dk', 'dv']);
const HAS_VALUE_DEPTH: ReadonlySet<Operand> = new Set<Operand>(['v', 'output', 'dOutput', 'dv']);

export function operandDepth(variant: AttentionVariant, operand: Operand): number {
  return HAS_VALUE_DEPTH.has(operand) ? variant.valueDepth : variant.depth;
}

/** Matrices whose rows are whole vec4s are bound as such; others element by element. */
export function isVectorized(variant: AttentionVariant, operand: Operand): boolean {
  return operandDepth(variant, operand) % 4 === 0;
}

export function operandBinding(variant: AttentionVariant, operand: Operand, access: 'read' | 'read_write'): Binding {
  return {name: operand, access, element: isVectorized(variant, operand) ? 'vec4f' : 'f32'};
}

/** Elements of the buffer (vec4s where vectorized) between rows. */
function rowStride(variant: AttentionVariant, operand: Operand): string {
  const depth = operandDepth(variant, operand);
  const units = isVectorized(variant, operand) ? depth / 4 : depth;
  const heads = ROWS_ARE_KEYS.has(operand) ? 'params.keyHeads' : 'params.heads';
  return variant.order === 'BHSD' ? `${units}u` : `(${units}u * ${heads})`;
}

/** First element of a head's rows. `head` is a query head or a key head, whichever the operand has. */
export function headBase(variant: AttentionVariant, operand: Operand, batch: string, head: string): string {
  const depth = operandDepth(variant, operand);
  const units = isVectorized(variant, operand) ? depth / 4 : depth;
  const [heads, rows] = ROWS_ARE_KEYS.has(operand)
    ? ['params.keyHeads', 'params.keys']
    : ['params.heads', 'params.queries'];
  return variant.order === 'BHSD'
    ? `(${batch} * ${heads} + ${head}) * ${rows} * ${units}u`
    : `(${batch} * ${rows} * ${heads} + ${head}) * ${units}u`;
}

/** WGSL function that loads four neighbouring elements of a row, 0 past the `limit` of rows and past the depth. */
export function loadFunction(variant: AttentionVariant, operand: Operand): string {
  const depth = operandDepth(variant, operand);
  const quads = Math.ceil(depth / 4);
  const stride = rowStride(variant, operand);
  const body = isVectorized(variant, operand)
    ? `return select(vec4f(), ${operand}[select(0u, base + row * ${stride} + quad, inside)], inside);`
    : `let first = select(0u, base + row * ${stride} + 4u * quad, inside);
  let rest = select(0u, ${depth}u - 4u * quad, inside);
  return vec4f(
    select(0.0, ${operand}[first], inside),
    select(0.0, ${operand}[first + min(1u, max(rest, 1u) - 1u)], rest > 1u),
    select(0.0, ${operand}[first + min(2u, max(rest, 1u) - 1u)], rest > 2u),
    select(0.0, ${operand}[first + min(3u, max(rest, 1u) - 1u)], rest > 3u));`;
  // Without branches, because this is inlined many times, and some compilers take long over each.
  return `
fn load_${operand}(base: u32, limit: u32, row: u32, quad: u32) -> vec4f {
  let inside = (row < limit) & (quad < ${quads}u);
  ${body}
}`;
}

/** The same, of operands whose rows are whole vec4s, for what lies inside of the limits. */
export function loadInsideFunction(variant: AttentionVariant, operand: Operand): string {
  if (!isVectorized(variant, operand)) return '';
  return `
fn loadInside_${operand}(base: u32, row: u32, quad: u32) -> vec4f {
  return ${operand}[base + row * ${rowStride(variant, operand)} + quad];
}`;
}

/** The operand as a source of tiles; `base` and `limit` are variables of the calling code. */
export function operandSource(operand: Operand, base: string, limit: string): Source {
  return {load: (row, quad) => `load_${operand}(${base}, ${limit}, ${row}, ${quad})`};
}

/** The same without conditions, by {@link loadInsideFunction}: past the limit it has the last row again. */
export function insideSource(operand: Operand, base: string, limit: string): Source {
  return {load: (row, quad) => `loadInside_${operand}(${base}, min(${row}, ${limit} - 1u), ${quad})`};
}

/** WGSL function that stores four neighbouring elements of a row, leaving out what lies past the depth. */
export function storeFunction(variant: AttentionVariant, operand: Operand): string {
  const depth = operandDepth(variant, operand);
  const body = isVectorized(variant, operand)
    ? `${operand}[base + row * ${rowStride(variant, operand)} + quad] = value;`
    : `let first = base + row * ${rowStride(variant, operand)} + 4u * quad;
  for (var c = 0u; c < min(4u, ${depth}u - 4u * quad); c++) { ${operand}[first + c] = value[c]; }`;
  return `
fn store_${operand}(base: u32, row: u32, quad: u32, value: vec4f) {
  ${body}
}`;
}

/** WGSL that stores an accumulator of `quadsPerThread` quads per row, as wide as the operand, rows below `limit` only. */
export function storeAccumulator(
  variant: AttentionVariant,
  operand: Operand,
  tile: TileSizes,
  quadsPerThread: number,
  at: {base: string; limit: string; row: (i: number) => string},
  value: (i: number, n: number) => string,
): string {
  const {threadsAcross} = threadGrid(tile);
  const quads = Math.ceil(operandDepth(variant, operand) / 4);
  const storeQuad = (i: number, n: number) => {
    const quad = `${n * threadsAcross}u + threadColumn`;
    const store = `store_${operand}(${at.base}, row, ${quad}, ${value(i, n)});`;
    return (n + 1) * threadsAcross <= quads ? store : `if (${quad} < ${quads}u) { ${store} }`;
  };
  return lines(
    tile.threadRows,
    (i) => `{
    let row = ${at.row(i)};
    if (row < ${at.limit}) {
      ${lines(quadsPerThread, (n) => storeQuad(i, n))}
    }
  }`,
  );
}

/** The optional buffers of a variant. */
export function optionalBindings(variant: AttentionVariant): Binding[] {
  const bindings: Binding[] = [];
  if (variant.bias) bindings.push({name: 'bias', access: 'read', element: 'f32'});
  if (variant.mask) bindings.push({name: 'mask', access: 'read', element: 'i32'});
  return bindings;
}

/** What every forward kernel reads. */
export function forwardInputs(variant: AttentionVariant): Binding[] {
  return [
    operandBinding(variant, 'q', 'read'),
    operandBinding(variant, 'k', 'read'),
    operandBinding(variant, 'v', 'read'),
    ...optionalBindings(variant),
    ...(variant.headTable ? [{name: 'heads', access: 'read', element: 'vec4f'} as const] : []),
  ];
}

/** What the kernel that comes last in the forward pass writes. */
export function forwardOutputs(variant: AttentionVariant): Binding[] {
  return [
    operandBinding(variant, 'output', 'read_write'),
    {name: 'softmaxStats', access: 'read_write', element: 'vec2f'},
  ];
}

/** WGSL of a row's softmax: `sum` is that of exp2(score − maximum) over the keys that it sees. */
export const softmaxFunctions = `
fn largest(quad: vec4f) -> f32 {
  return max(max(quad.x, quad.y), max(quad.z, quad.w));
}

// The largest term of a sum is exp2(0), so only a row that saw nothing has less; NaN is not less than anything.
fn sawSomething(sum: f32) -> bool {
  return !(sum < 0.5);
}

// The row's entry in softmaxStats.
fn statsOfRow(maximum: f32, sum: f32, visible: bool) -> vec2f {
  let reference = maximum * ${Math.LN2};
  // With the reference as the backward kernels will read it.
  let total = sum * exp2(maximum - reference * ${LOG2_E});
  return select(vec2f(${LOWEST_FLOAT32}, 1.0), vec2f(reference, total), visible);
}`;

/**
 * WGSL struct `Head`: one query head of one sample, and what its rows may see. `table` says where slopes and lengths
 * come from: a table of (slope, query length, key length) per head, the head of a `stats` buffer, or nowhere.
 */
export function headFunctions(variant: AttentionVariant, table: 'heads' | 'stats' | 'none'): string {
  const entry = {
    heads: 'let entry = heads[index].xyz;',
    stats: 'let entry = stats[index].xyz;',
    none: 'let entry = vec3f(0.0, f32(params.queries), f32(params.keys));',
  }[variant.headTable ? table : 'none'];
  return `
struct Head {
  index: u32,
  batch: u32,
  head: u32,
  keyHead: u32,
  queryLength: i32,
  keyLength: i32,
  // Query i stands over key i + diagonal.
  diagonal: i32,
  slope: f32,
  biasBase: u32,
  maskBase: u32,
}

fn makeHead(batch: u32, head: u32) -> Head {
  let index = batch * params.heads + head;
  ${entry}
  let queryLength = i32(entry.y);
  let keyLength = i32(entry.z);
  return Head(
    index, batch, head, head / (params.heads / params.keyHeads),
    queryLength, keyLength, keyLength - queryLength, entry.x,
    batch * params.biasStrides.x + head * params.biasStrides.y,
    batch * params.maskStrides.x + head * params.maskStrides.y);
}

// The keys [x, y) that at least one of the queries [first, last] sees.
fn visibleKeys(head: Head, first: i32, last: i32) -> vec2i {
  let keys = vec2i(
    max(first + head.diagonal - params.left, 0),
    min(min(last, head.queryLength - 1) + head.diagonal + params.right + 1, head.keyLength));
  return select(vec2i(), keys, first < head.queryLength);
}

// The queries [x, y) that see at least one of the keys [first, last].
fn visibleQueries(head: Head, first: i32, last: i32) -> vec2i {
  let queries = vec2i(
    max(first - head.diagonal - params.right, 0),
    min(min(last, head.keyLength - 1) - head.diagonal + params.left + 1, head.queryLength));
  return select(vec2i(), queries, first < head.keyLength);
}

// The keys [x, y) that all of the queries [first, last] see.
fn keysThatAllSee(head: Head, first: i32, last: i32) -> vec2i {
  return vec2i(
    max(last + head.diagonal - params.left, 0),
    min(first + head.diagonal + params.right + 1, head.keyLength));
}

// The queries [x, y) that see all of the keys [first, last].
fn queriesThatSeeAll(head: Head, first: i32, last: i32) -> vec2i {
  let queries = vec2i(
    max(last - head.diagonal - params.right, 0),
    min(first - head.diagonal + params.left + 1, head.queryLength));
  return select(vec2i(), queries, last < head.keyLength);
}

// Whether some query of [query, queryEnd) does not see some key of [key, keyEnd).
fn hasHidden(head: Head, query: i32, queryEnd: i32, key: i32, keyEnd: i32) -> bool {
  return keyEnd > head.keyLength
    || keyEnd - 1 > query + head.diagonal + params.right
    || key < queryEnd - 1 + head.diagonal - params.left;
}

// Hides the scores of keys outside a query's window or past the key length.
fn hideInvisible(head: Head, scores: vec4f, query: vec4i, key: vec4i) -> vec4f {
  let diagonal = query + head.diagonal;
  let visible = (key < vec4i(head.keyLength)) & (key <= diagonal + params.right) & (key >= diagonal - params.left);
  return select(vec4f(hiddenScore), scores, visible);
}`;
}

/** WGSL `scoresOf(head, dots, query, key)`: four scores in log2 units from four dot products. */
export function scoreFunctions(variant: AttentionVariant): string {
  const gather = (buffer: string, strides: string, base: string) => {
    const element = (c: string) =>
      `${buffer}[${base} + u32(query.${c}) * params.${strides}.z + u32(key.${c}) * params.${strides}.w]`;
    return ['x', 'y', 'z', 'w'].map(element).join(', ');
  };
  // Rows and columns past the edges must not read past the buffers; their scores are hidden later.
  const clamped = `let query = min(queryAny, vec4i(i32(params.queries) - 1));
  let key = min(keyAny, vec4i(i32(params.keys) - 1));`;
  return `
${variant.softcap ? tanhFunction : ''}
fn scoresOf(head: Head, dots: vec4f, queryAny: vec4i, keyAny: vec4i) -> vec4f {
  var scores = ${variant.softcap ? `tanhQuad(dots * (params.scale / params.softcap)) * (params.softcap * ${LOG2_E})` : `dots * (params.scale * ${LOG2_E})`};
  ${variant.bias || variant.mask || variant.headTable ? clamped : ''}
  ${variant.headTable ? `scores -= (head.slope * ${LOG2_E}) * vec4f(abs(query + head.diagonal - key));` : ''}
  ${
    variant.bias
      ? `scores += ${LOG2_E} * vec4f(${gather('bias', 'biasStrides', 'head.biasBase')});
  scores = select(scores, vec4f(hiddenScore), scores < vec4f(${HIDDEN_BELOW}));`
      : ''
  }
  ${
    variant.mask
      ? `let shown = vec4i(${gather('mask', 'maskStrides', 'head.maskBase')}) != vec4i();
  scores = select(vec4f(hiddenScore), scores, shown);`
      : ''
  }
  return scores;
}

// What the score's gradient is multiplied by to become the dot product's, but for the scale.
fn softcapSlope(dots: vec4f) -> vec4f {
  ${
    variant.softcap
      ? `let t = tanhQuad(dots * (params.scale / params.softcap));
  return 1.0 - t * t;`
      : 'return vec4f(1.0);'
  }
}`;
}

/** The built-in tanh overflows on some drivers and is coarse on others. */
const tanhFunction = `
fn tanhQuad(x: vec4f) -> vec4f {
  // tanh x = x + x³·P(x²) (Cephes, tanhf): near 0 the exponential would lose what makes the difference from 1.
  let z = x * x;
  let odd = ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z
    - 3.33332819422e-1) * z * x + x;
  let e = exp2(${2 * LOG2_E} * min(abs(x), vec4f(20.0)));
  return select(sign(x) * (1.0 - 2.0 / (e + 1.0)), odd, abs(x) < vec4f(0.625));
}`;

/** WGSL `keepOf(head, query, keyQuad)`: what dropout multiplies four neighbouring probabilities with (dropout.ts). */
export function dropoutFunction(variant: AttentionVariant): string {
  if (!variant.dropout) return '';
  return `
fn keepOf(head: Head, query: u32, keyQuad: u32) -> vec4f {
  var v = vec4u(keyQuad, query, head.index, params.dropoutSeed) * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return select(vec4f(params.dropoutFactor), vec4f(), v < vec4u(params.dropoutThreshold));
}`;
}
