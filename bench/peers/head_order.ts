/** Values between the order [B, H, S, D] of the benchmark's inputs and checks and the order [B, S, H, D] of peers. */
import type {AttentionProblem} from '../cases.js';

type Sizes = Pick<AttentionProblem, 'batch' | 'heads' | 'sequence' | 'depth'>;

/** [B, H, S, D] to [B, S, H, D]. */
export function toBSHD(values: Float32Array, sizes: Sizes): Float32Array {
  const {batch, heads, sequence, depth} = sizes;
  const reordered = new Float32Array(values.length);
  for (let place = 0; place < batch * heads; place++) {
    for (let row = 0; row < sequence; row++) {
      const start = (place * sequence + row) * depth;
      reordered.set(values.subarray(start, start + depth), rowStart(sizes, place, row));
    }
  }
  return reordered;
}

/** One head [S, D] of values [B, S, H, D], by its place b·H + h. */
export function headOfBSHD(values: Float32Array, sizes: Sizes, place: number): Float32Array {
  const {sequence, depth} = sizes;
  const head = new Float32Array(sequence * depth);
  for (let row = 0; row < sequence; row++) {
    const start = rowStart(sizes, place, row);
    head.set(values.subarray(start, start + depth), row * depth);
  }
  return head;
}

/** Where a row of a head begins among values [B, S, H, D]. */
function rowStart({heads, sequence, depth}: Sizes, place: number, row: number): number {
  const sample = Math.floor(place / heads);
  return ((sample * sequence + row) * heads + (place % heads)) * depth;
}
