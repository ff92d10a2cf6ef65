/** Rotary position embedding of queries and keys. */
import {keep, type Tensor2D, type Tensor4D, tensor2d} from '@tensorflow/tfjs-core';
import {rotaryEmbedding} from '../ops/rotary_embedding.js';

/**
 * Turns the pair (x[d], x[d + D/2]) of the token at position p by the angle p·base^(−2d/D), so that the product of a query
 * and a key depends on the distance of their positions. The pairs are halves apart, as in GPT-NeoX and Llama.
 *
 * GPUs know sines and cosines of large angles to a few digits only, so a table of them is made here, in float64.
 *
 * Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021, arXiv 2104.09864).
 */
export class RotaryEmbedding {
  /** [positions, D]: cosines, and then sines. */
  private table: Tensor2D | undefined;

  constructor(
    private readonly depth: number,
    private readonly base: number,
  ) {}

  /** @param x [B, S, H, D], whose tokens have the positions from `first` on. */
  rotate(x: Tensor4D, first = 0): Tensor4D {
    return rotaryEmbedding(x, this.tableFor(first + x.shape[1]), first);
  }

  /** Frees the table; a later call makes it again. */
  dispose(): void {
    this.table?.dispose();
    this.table = undefined;
  }

  /** The table grows by doubling after the first, so that generation uploads few of them. */
  private tableFor(positions: number): Tensor2D {
    if (this.table && this.table.shape[0] >= positions) return this.table;
    const grown = this.table ? Math.max(positions, 2 * this.table.shape[0]) : positions;
    this.dispose();
    this.table = keep(this.makeTable(grown));
    return this.table;
  }

  private makeTable(positions: number): Tensor2D {
    const {depth, base} = this;
    const half = depth / 2;
    const values = Float32Array.from({length: positions * depth}, (_, i) => {
      const angle = Math.floor(i / depth) * base ** ((-2 * (i % half)) / depth);
      return i % depth < half ? Math.cos(angle) : Math.sin(angle);
    });
    return tensor2d(values, [positions, depth]);
  }
}
