/** Rotary position embedding of queries and keys. */
import {add, concat, dispose, keep, mul, slice, type Tensor, type Tensor4D, tensor, tidy} from '@tensorflow/tfjs-core';

/** cos and sin of every position, each [positions, 1, D]. */
interface RotaryTables {
  positions: number;
  cos: Tensor;
  /** Negative in the first half of the axis D. */
  sin: Tensor;
}

/**
 * Turns the pair (x[d], x[d + D/2]) of the token at position p by the angle p·base^(−2d/D), so that the product of a query
 * and a key depends on the distance of their positions. The pairs are halves apart, as in GPT-NeoX and Llama.
 *
 * GPUs know sines and cosines of large angles to a few digits only, so the tables are made here, in float64.
 *
 * Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021, arXiv 2104.09864).
 */
export class RotaryEmbedding {
  private tables: RotaryTables | undefined;

  constructor(
    private readonly depth: number,
    private readonly base: number,
  ) {}

  /** @param x [B, S, H, D], whose tokens have the positions from `first` on. */
  rotate(x: Tensor4D, first = 0): Tensor4D {
    const half = this.depth / 2;
    const [, length] = x.shape;
    const {positions, cos, sin} = this.tablesFor(first + length);
    const rows = (table: Tensor) =>
      first === 0 && length === positions ? table : slice(table, [first, 0, 0], [length, 1, this.depth]);
    const swapped = concat(
      [slice(x, [0, 0, 0, half], [-1, -1, -1, half]), slice(x, [0, 0, 0, 0], [-1, -1, -1, half])],
      3,
    );
    return add(mul(x, rows(cos)), mul(swapped, rows(sin)));
  }

  /** Frees the tables; a later call makes them again. */
  dispose(): void {
    if (this.tables) dispose([this.tables.cos, this.tables.sin]);
    this.tables = undefined;
  }

  /** The tables grow by doubling after the first, so that generation uploads few of them. */
  private tablesFor(positions: number): RotaryTables {
    if (this.tables && this.tables.positions >= positions) return this.tables;
    const grown = this.tables ? Math.max(positions, 2 * this.tables.positions) : positions;
    this.dispose();
    this.tables = this.makeTables(grown);
    return this.tables;
  }

  private makeTables(positions: number): RotaryTables {
    const {depth, base} = this;
    const half = depth / 2;
    const angle = (i: number) => Math.floor(i / depth) * base ** ((-2 * (i % half)) / depth);
    const size = positions * depth;
    const cos = Float32Array.from({length: size}, (_, i) => Math.cos(angle(i)));
    const sin = Float32Array.from({length: size}, (_, i) => (i % depth < half ? -1 : 1) * Math.sin(angle(i)));
    return tidy(() => ({
      positions,
      cos: keep(tensor(cos, [positions, 1, depth])),
      sin: keep(tensor(sin, [positions, 1, depth])),
    }));
  }
}
