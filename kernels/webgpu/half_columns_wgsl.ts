/**
 * WGSL emitters for the columns of attention kernels that multiply in float16 (half_matrices_wgsl.ts): how a tile of 16 columns
 * gets into workgroup memory, and out of it as matrices.
 *
 * Two tiles take turns in memory, and one more is on its way in registers: with one, every subgroup would wait for the loads
 * of all others twice per tile.
 */
import type {Operand} from './attention_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import {range} from './tile_wgsl.js';

/** A tile of columns in workgroup memory, 16 rows of their elements. */
export interface HalfColumns {
  name: string;
  depth: number;
}

/** Matrices that cover the depth; what is past it is 0. */
export function matricesOf(depth: number): number {
  return Math.ceil(depth / MATRIX_SIZE);
}

/** Elements of padding, so that rows start in other banks. */
export const PADDING = 8;

/** Elements from column to column. */
const columnStride = ({depth}: HalfColumns) => matricesOf(depth) * MATRIX_SIZE + PADDING;
/** Of one of the two buffers. */
const columnQuads = (columns: HalfColumns) => (MATRIX_SIZE * columnStride(columns)) / 4;

export function columnBytes(columns: HalfColumns): number {
  return 2 * columnQuads(columns) * 8;
}

export function declareColumns(columns: HalfColumns): string {
  return `var<workgroup> ${columns.name}: array<vec4<f16>, ${2 * columnQuads(columns)}>;`;
}

/** WGSL of the columns' d-th right matrix: as it lies there ('row_major'), columns down, or transposed. Needs `buffer`. */
export function columnMatrix(columns: HalfColumns, d: number, layout: 'row_major' | 'col_major'): string {
  const type = `subgroup_matrix_right<f16, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;
  const offset = `buffer * ${columnQuads(columns)}u + ${(d * MATRIX_SIZE) / 4}u`;
  return `subgroupMatrixLoad<${type}, ${layout}>(&${columns.name}, ${offset}, ${columnStride(columns) / 4}u)`;
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
