/**
 * WGSL emitters for the columns of attention kernels that multiply in float16 (half_matrices_wgsl.ts): how a tile of 16 columns
 * gets into workgroup memory, and out of it as matrices.
 *
 * Two tiles take turns in memory, and one more is on its way in registers: with one, every subgroup would wait for the loads
 * of all others twice per tile.
 */
import {
  type AttentionVariant,
  insideSource,
  loadInsideFunction,
  type Operand,
  operandSource,
} from './attention_wgsl.js';
import {type HalfTile, MATRIX_SIZE} from './half_tiles.js';
import type {NumberedTiles} from './live_tiles_wgsl.js';
import {range} from './tile_wgsl.js';

/** A tile of columns in workgroup memory. */
export interface ColumnMemory {
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
const columnStride = ({depth}: ColumnMemory) => matricesOf(depth) * MATRIX_SIZE + PADDING;
/** Of one of the two buffers. */
const columnQuads = (columns: ColumnMemory) => (MATRIX_SIZE * columnStride(columns)) / 4;

export function columnBytes(columns: ColumnMemory): number {
  return 2 * columnQuads(columns) * 8;
}

export function declareColumns(columns: ColumnMemory): string {
  return `var<workgroup> ${columns.name}: array<vec4<f16>, ${2 * columnQuads(columns)}>;`;
}

/** WGSL of the columns' d-th right matrix: as it lies there ('row_major'), columns down, or transposed. */
export function columnMatrix(
  columns: ColumnMemory,
  d: number,
  layout: 'row_major' | 'col_major',
  buffer: string,
): string {
  const type = `subgroup_matrix_right<f16, ${MATRIX_SIZE}, ${MATRIX_SIZE}>`;
  const offset = `${buffer} * ${columnQuads(columns)}u + ${(d * MATRIX_SIZE) / 4}u`;
  return `subgroupMatrixLoad<${type}, ${layout}>(&${columns.name}, ${offset}, ${columnStride(columns) / 4}u)`;
}

/** Column operands of a tile, and where each comes from: rows of an operand of attention, up to a limit. */
export interface HalfOperand {
  columns: ColumnMemory;
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

/** What else goes with a tile of columns, into registers and into one of two buffers. */
interface Beside {
  declare: string;
  load: (columnStart: string) => string;
  store: (buffer: string) => string;
}

const nothingBeside: Beside = {declare: '', load: () => '', store: () => ''};

/**
 * Goes over tiles of columns, with loads spread over the workgroup: {@link loadFirst}, {@link storeFirst}, a barrier, and one
 * of the loops, in whose body {@link storeNext} comes behind a barrier after all that reads the tile before, and in front of one
 * before what reads the next, and then {@link loadAhead}.
 */
export class ColumnsAhead {
  private readonly shares: Share[];

  constructor(
    private readonly tile: HalfTile,
    private readonly operands: HalfOperand[],
    private readonly tiles: NumberedTiles,
    private readonly beside: Beside = nothingBeside,
  ) {
    this.shares = sharesOf(tile, operands);
  }

  /** The functions that loads call beside those that check, and one that the loops call. */
  functions(variant: AttentionVariant): string {
    const {columns} = this.tile;
    return `${this.operands.map(({operand}) => loadInsideFunction(variant, operand)).join('')}

// The numbers [x, y) of the tiles that lie among these columns.
fn wholeTiles(columns: vec2i, firstTile: u32, tileCount: u32) -> vec2u {
  let count = i32(tileCount);
  let first = clamp((columns.x + ${columns - 1}) / ${columns} - i32(firstTile), 0, count);
  return vec2u(vec2i(first, clamp(columns.y / ${columns} - i32(firstTile), first, count)));
}`;
  }

  get declare(): string {
    return [...this.shares.map(({register}) => `var ${register} = vec4f();`), this.beside.declare].join('\n');
  }

  get loadFirst(): string {
    return `if (tileCount > 0u) { ${this.load('0u')} }`;
  }

  /** Also loads the second. */
  get storeFirst(): string {
    return `${this.store('0u')}
  if (tileCount > 1u) { ${this.load('1u')} }`;
  }

  /** A loop over tiles, with what {@link enterTile} declares. */
  overTiles(body: string): string {
    return `{ var number = 0u; ${this.loop('tileCount', body)} }`;
  }

  /** Declares `whole`, the numbers [x, y) of the tiles that lie among the columns [x, y) that all rows see. */
  declareWhole(seenByAll: string): string {
    return `let whole = wholeTiles(${seenByAll}, firstTile, tileCount);`;
  }

  /**
   * The loop where {@link declareWhole} comes first: tiles in which nothing is hidden need no code that hides. Branches keep
   * compilers from moving loads and products past them.
   */
  overWholeAndOtherTiles(body: (mayHide: boolean) => string): string {
    return `{
    var number = 0u;
    while (number < tileCount) {
      if ((number == whole.x) & (number < whole.y)) {
        ${this.loop('whole.y', body(false))}
      } else {
        let end = select(tileCount, whole.x, number < whole.x);
        ${this.loop('end', body(true))}
      }
    }
  }`;
  }

  private loop(end: string, body: string): string {
    return `for (; number < ${end}; number++) {
      ${this.enterTile('number')}
      ${body}
    }`;
  }

  /** Declares `buffer` of a tile, its `columnStart`, `ownColumns`, those of the lane, and `hasDead`. */
  enterTile(number: string): string {
    return `let buffer = ${number} % 2u;
    let columnStart = ${this.tiles.columnStart(number)};
    let ownColumns = 4 * i32(columnStart / 4u + ownQuad) + vec4i(0, 1, 2, 3);
    let hasDead = ${this.tiles.hasDead(number)};`;
  }

  get storeNext(): string {
    return this.store('(1u - buffer)');
  }

  /** The tile after the next; behind the last one, that again: a condition would cost more. */
  get loadAhead(): string {
    return this.load('min(number + 2u, tileCount - 1u)');
  }

  /**
   * A tile into registers. Columns past the limit get what the last one has, which is what hidden ones get too: a product
   * with 0. To tell apart tiles that need no limit would cost more.
   */
  private load(number: string): string {
    const columnStart = this.tiles.columnStart(number);
    const loads = this.each(({operand: {operand, columns, limit, factor}, register, column, quad}) => {
      const load =
        columns.depth % MATRIX_SIZE === 0
          ? insideSource(operand, `${operand}Base`, limit).load(`aheadStart + ${column}`, quad)
          : operandSource(operand, `${operand}Base`, limit).load(`aheadStart + ${column}`, quad);
      return `${register} = ${factor ? `${factor} * ` : ''}${load};`;
    });
    return `{
      let aheadStart = ${columnStart};
      ${loads}
    }
    ${this.beside.load(columnStart)}`;
  }

  /** What is in registers into this buffer, 0 or 1. */
  private store(buffer: string): string {
    const columns = this.each(({operand: {columns}, register, column, quad}) => {
      const place = `${buffer} * ${columnQuads(columns)}u + ${column} * ${columnStride(columns) / 4}u + ${quad}`;
      return `${columns.name}[${place}] = vec4<f16>(${register});`;
    });
    return `${columns}\n${this.beside.store(buffer)}`;
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
