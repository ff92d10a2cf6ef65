/**
 * WGSL emitters for attention kernels that multiply in float16 by subgroup matrices, with float32 sums. Each subgroup has
 * 16 rows of the score matrix: their operands stay in registers as left matrices, those of the columns pass through
 * workgroup memory 16 at a time, and are there as float16 for the whole workgroup.
 *
 * WGSL does not say which lane has which element of a matrix, so what is done element by element goes through workgroup
 * memory too: a subgroup's matrix of float32 scores ("stage"), of which a lane then has, in two rows, a quad of columns;
 * and what it makes of them, float16 again, on its way back into a left matrix ("weights").
 *
 * Vulkan wants matrices at multiples of 16 bytes, WGSL only that arrays of vec4<f16> begin at multiples of 8, and a driver
 * believed the former of what was not so. Therefore all that these kernels have in workgroup memory is of whole 16 bytes.
 *
 * Two tiles of columns take turns in memory, and one more is on its way in registers: with one, every subgroup would wait
 * for the loads of all others twice per tile.
 */
import {type AttentionVariant, headBase, type Operand, operandDepth} from './attention_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import {lines, range, type Source} from './tile_wgsl.js';

/** WGSL that must come before all else of a module with these emitters. */
export const halfDirectives = `enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
requires subgroup_id;
// Subgroups are whole, and what they branch on is the same for all of their lanes.
diagnostic(off, chromium.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);`;

/** Built-ins that the emitted code reads. */
export const halfBuiltins = ['@builtin(subgroup_id) subgroup: u32', '@builtin(subgroup_invocation_id) lane: u32'];

const LEFT = `subgroup_matrix_left<f16, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;
const RIGHT = `subgroup_matrix_right<f16, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;
const RESULT = `subgroup_matrix_result<f32, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;

/** Rows of a stage that a lane has a quad of: these apart. */
const LANE_ROWS = 2;
const ROWS_APART = MATRIX_SIZE / LANE_ROWS;
/** The lane's rows, as the emitters number them. */
export const laneRows = range(LANE_ROWS);

/** Elements of padding, so that rows of a stage, of weights and of columns start in other banks. */
const PADDING = 8;

/** Matrices that cover the depth; what is past it is 0. */
export function matricesOf(depth: number): number {
  return Math.ceil(depth / MATRIX_SIZE);
}

/** A subgroup's matrices of scores side by side: one in the forward kernel, S and dP in the gradients. */
export interface Stage {
  /** Matrices of float32, and of float16. */
  scores: number;
  weights: number;
}

const rowOf = (matrices: number) => matrices * MATRIX_SIZE + PADDING;

/** Quads of workgroup memory for so many matrices of each subgroup; nothing follows the last row. */
function stageQuads({subgroups}: HalfTile, matrices: number): number {
  return (subgroups * MATRIX_SIZE * rowOf(matrices) - PADDING) / 4;
}

/** A tile of columns in workgroup memory, 16 rows of their elements. */
export interface HalfColumns {
  name: string;
  depth: number;
}

/** Elements from column to column. */
const columnStride = ({depth}: HalfColumns) => matricesOf(depth) * MATRIX_SIZE + PADDING;
const columnQuads = (columns: HalfColumns) => (MATRIX_SIZE * columnStride(columns)) / 4;

export function halfBytes(tile: HalfTile, stage: Stage, columns: HalfColumns[]): number {
  const ofColumns = columns.reduce((quads, column) => quads + 2 * columnQuads(column), 0);
  return 16 * stageQuads(tile, stage.scores) + 8 * (stageQuads(tile, stage.weights) + ofColumns);
}

export function declareHalfMemory(tile: HalfTile, stage: Stage, columns: HalfColumns[]): string {
  return `
var<workgroup> scoreStage: array<vec4f, ${stageQuads(tile, stage.scores)}>;
var<workgroup> weightStage: array<vec4<f16>, ${stageQuads(tile, stage.weights)}>;
${columns.map((column) => `var<workgroup> ${column.name}: array<vec4<f16>, ${2 * columnQuads(column)}>;`).join('\n')}`;
}

/**
 * Declares where a lane stands: `firstRow`, of its subgroup, `ownQuad`, of the 16 columns, and `ownRow${i}`. Neighbouring
 * quartets of lanes have every second row, so that what eight lanes load at once lies in different banks. Needs `rowStart`.
 */
export function enterHalfTile(): string {
  return `
  let firstRow = rowStart + subgroup * ${MATRIX_SIZE}u;
  let ownQuad = lane % 4u;
  let rowInStage = lane / 4u % 4u * 2u + lane / 16u;
  ${laneRows.map((i) => `let ownRow${i} = firstRow + rowInStage + ${i * ROWS_APART}u;`).join('\n')}`;
}

const stageMemory = {scores: 'scoreStage', weights: 'weightStage'} as const;
type StageOf = keyof typeof stageMemory;

/** The lane's quad in its i-th row of matrix m of the stage. */
function laneQuad(stage: Stage, of: StageOf, m: number, i: number): string {
  const quads = rowOf(stage[of]) / 4;
  const row = `(subgroup * ${MATRIX_SIZE}u + rowInStage + ${i * ROWS_APART}u)`;
  return `${stageMemory[of]}[${row} * ${quads}u + ${(m * MATRIX_SIZE) / 4}u + ownQuad]`;
}

export const scoreQuad = (stage: Stage, m: number, i: number) => laneQuad(stage, 'scores', m, i);
export const weightQuad = (stage: Stage, m: number, i: number) => laneQuad(stage, 'weights', m, i);

/** WGSL arguments `pointer, offset, stride` of the subgroup's matrix m of the stage. */
function matrixInStage(stage: Stage, of: StageOf, m: number): {pointer: string; offset: string; stride: string} {
  const quads = rowOf(stage[of]) / 4;
  return {
    pointer: `&${stageMemory[of]}`,
    offset: `subgroup * ${MATRIX_SIZE * quads}u + ${(m * MATRIX_SIZE) / 4}u`,
    stride: `${quads}u`,
  };
}

export function storeResult(stage: Stage, m: number, matrix: string): string {
  const {pointer, offset, stride} = matrixInStage(stage, 'scores', m);
  return `subgroupMatrixStore<row_major>(${pointer}, ${offset}, ${matrix}, ${stride});`;
}

export function loadResult(stage: Stage, m: number): string {
  const {pointer, offset, stride} = matrixInStage(stage, 'scores', m);
  return `subgroupMatrixLoad<${RESULT}, row_major>(${pointer}, ${offset}, ${stride})`;
}

export function loadWeights(stage: Stage, m: number): string {
  const {pointer, offset, stride} = matrixInStage(stage, 'weights', m);
  return `subgroupMatrixLoad<${LEFT}, row_major>(${pointer}, ${offset}, ${stride})`;
}

/** Declares the left matrices `${name}${d}` of the subgroup's rows, by way of the weights' memory. */
export function keepHalfRows(stage: Stage, depth: number, name: string, source: Source, factor = '1.0'): string {
  return lines(
    matricesOf(depth),
    (d) => `
  ${lines(LANE_ROWS, (i) => `${weightQuad(stage, 0, i)} = vec4<f16>(${factor} * ${source.load(`ownRow${i}`, `${(d * MATRIX_SIZE) / 4}u + ownQuad`)});`)}
  workgroupBarrier();
  let ${name}${d} = ${loadWeights(stage, 0)};
  workgroupBarrier();`,
  );
}

/** Declares the sums `${name}${d}` of as many columns as the depth has, zeroed. */
export function declareResults(depth: number, name: string): string {
  return lines(matricesOf(depth), (d) => `var ${name}${d} = ${RESULT}();`);
}

/** Declares `${name}`: rows · columnsᵀ, of the matrices that {@link keepHalfRows} has declared. */
export function multiplyByColumns(name: string, rows: string, columns: HalfColumns): string {
  const stride = columnStride(columns) / 4;
  const step = (d: number) => {
    const offset = `buffer * ${columnQuads(columns)}u + ${(d * MATRIX_SIZE) / 4}u`;
    const right = `subgroupMatrixLoad<${RIGHT}, col_major>(&${columns.name}, ${offset}, ${stride}u)`;
    return `${name} = subgroupMatrixMultiplyAccumulate(${rows}${d}, ${right}, ${name});`;
  };
  return `var ${name} = ${RESULT}();\n${lines(matricesOf(columns.depth), step)}`;
}

/** ${sums} += weights · columns, with the stage's matrix m of weights. */
export function addWeightedColumns(stage: Stage, m: number, sums: string, columns: HalfColumns): string {
  const stride = columnStride(columns) / 4;
  const step = (d: number) => {
    const offset = `buffer * ${columnQuads(columns)}u + ${(d * MATRIX_SIZE) / 4}u`;
    const right = `subgroupMatrixLoad<${RIGHT}, row_major>(&${columns.name}, ${offset}, ${stride}u)`;
    return `${sums}${d} = subgroupMatrixMultiplyAccumulate(weights, ${right}, ${sums}${d});`;
  };
  return `{
    let weights = ${loadWeights(stage, m)};
    ${lines(matricesOf(columns.depth), step)}
  }`;
}

/** Runs code for sums that lie in the stage one matrix after the other; `code` gets the quad and its column in quads. */
export function eachStagedResult(
  stage: Stage,
  depth: number,
  sums: string,
  code: (quad: string, i: number, column: string) => string,
  after: (d: number) => string = () => '',
): string {
  return lines(
    matricesOf(depth),
    (d) => `
    workgroupBarrier();
    ${storeResult(stage, 0, `${sums}${d}`)}
    workgroupBarrier();
    ${lines(LANE_ROWS, (i) => code(scoreQuad(stage, 0, i), i, `(${(d * MATRIX_SIZE) / 4}u + ownQuad)`))}
    ${after(d)}`,
  );
}

/** Stores the subgroup's sums, rows below `limit`; `value` makes of a quad of a row what is stored. */
export function storeHalfRows(
  variant: AttentionVariant,
  stage: Stage,
  operand: Operand,
  {sums, base, limit}: {sums: string; base: string; limit: string},
  value: (quad: string, i: number) => string,
): string {
  const depth = operandDepth(variant, operand);
  const quads = Math.ceil(depth / 4);
  return eachStagedResult(stage, depth, sums, (quad, i, column) => {
    return `if ((ownRow${i} < ${limit}) & (${column} < ${quads}u)) {
      store_${operand}(${base}, ownRow${i}, ${column}, ${value(quad, i)});
    }`;
  });
}

/** Column operands of a tile, and where each comes from: rows of an operand of attention, up to a limit. */
export interface HalfOperand {
  columns: HalfColumns;
  operand: Operand;
  limit: string;
  /** WGSL of what each element is multiplied with. */
  factor?: string;
}

/** What an invocation loads at once of a tile: a quad of one operand, and in which invocations. */
interface Share {
  operand: HalfOperand;
  register: string;
  /** WGSL of the column in the tile, and of its quad. */
  column: string;
  quad: string;
  /** WGSL; always where it is left out. */
  isOwn?: string;
}

/** How the loads of a tile are spread over the workgroup: as transfers of tile_wgsl.ts are, into two buffers. */
export class ColumnsAhead {
  private readonly shares: Share[];

  constructor(tile: HalfTile, operands: HalfOperand[]) {
    this.shares = sharesOf(tile, operands);
  }

  get declare(): string {
    return this.shares.map(({register}) => `var ${register} = vec4f();`).join('\n');
  }

  /** The tile that begins at `columnStart` into registers. What lies inside needs fewer instructions. */
  load(columnStart: string): string {
    const limits = new Set(this.shares.map(({operand}) => operand.limit));
    const isWhole = [...limits].map((limit) => `(aheadStart + ${MATRIX_SIZE}u <= ${limit})`);
    return `{
      let aheadStart = ${columnStart};
      if (${isWhole.join(' & ')}) {
        ${this.loads(true)}
      } else {
        ${this.loads(false)}
      }
    }`;
  }

  private loads(inside: boolean): string {
    return this.each(({operand: {operand, columns, limit, factor}, register, column, quad}) => {
      const row = `aheadStart + ${column}`;
      const load =
        inside && columns.depth % MATRIX_SIZE === 0
          ? `loadInside_${operand}(${operand}Base, ${row}, ${quad})`
          : `load_${operand}(${operand}Base, ${limit}, ${row}, ${quad})`;
      return `${register} = ${factor ? `${factor} * ` : ''}${load};`;
    });
  }

  /** What is in registers into this buffer, 0 or 1. */
  store(buffer: string): string {
    return this.each(({operand: {columns}, register, column, quad}) => {
      const place = `${buffer} * ${columnQuads(columns)}u + ${column} * ${columnStride(columns) / 4}u + ${quad}`;
      return `${columns.name}[${place}] = vec4<f16>(${register});`;
    });
  }

  private each(code: (share: Share) => string): string {
    return this.shares
      .map((share) => (share.isOwn ? `if (${share.isOwn}) { ${code(share)} }` : code(share)))
      .join('\n');
  }
}

function sharesOf({threads}: HalfTile, operands: HalfOperand[]): Share[] {
  // Operands that do not need all invocations get other ones.
  let nextThread = 0;
  return operands.flatMap((operand) => {
    const {columns} = operand;
    const quads = (matricesOf(columns.depth) * MATRIX_SIZE) / 4;
    const count = MATRIX_SIZE * quads;
    const share = (n: number, item: string, isOwn?: string): Share => ({
      operand,
      register: `${columns.name}Ahead${n}`,
      column: `(${item} / ${quads}u)`,
      quad: `${item} % ${quads}u`,
      isOwn,
    });
    if (count < threads) {
      const first = nextThread + count <= threads ? nextThread : 0;
      nextThread = first + count;
      // The remainder, where it is the same, because compilers can tell how large it is.
      const item = first % count === 0 ? `(localIndex % ${count}u)` : `(localIndex - ${first}u)`;
      return share(0, item, `(localIndex >= ${first}u) & (localIndex < ${first + count}u)`);
    }
    return range(Math.ceil(count / threads)).map((n) => {
      const item = `(localIndex + ${n * threads}u)`;
      return share(n, item, (n + 1) * threads <= count ? undefined : `${item} < ${count}u`);
    });
  });
}

/** Bases of the operands of one head, in the variables that {@link operandSource} is told. */
export function declareBases(variant: AttentionVariant, operands: Operand[], batch: string, head: string): string {
  return operands.map((name) => `let ${name}Base = ${headBase(variant, name, batch, head)};`).join('\n');
}
