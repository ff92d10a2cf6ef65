/** How far results lie from the right answer, and how far they may. */

import type {AttentionPrecision} from '../../src/kernel_names.js';

/**
 * Largest error allowed: in float32 as a part of the root mean square of the right answer, ten times what it needs here; in
 * float16, which rounds each number by itself, of the largest, ten roundings.
 */
const tolerances: Record<AttentionPrecision, number> = {highest: 1e-3, fast: 10 * 2 ** -11};

/** Gathers how far results lie from the right answer. */
export class ErrorMeter {
  private worst = 0;
  private squares = 0;
  private largest = 0;
  private count = 0;

  constructor(private readonly precision: AttentionPrecision = 'highest') {}

  compare(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
    for (let i = 0; i < expected.length; i++) {
      // NaN, once it is there, stays.
      this.worst = Math.max(this.worst, Math.abs(actual[i] - expected[i]));
      this.squares += expected[i] ** 2;
      this.largest = Math.max(this.largest, Math.abs(expected[i]));
    }
    this.count += expected.length;
  }

  /** The largest error divided by the root mean square of what was expected, or by the largest of it. */
  within(name: string): number {
    const isFast = this.precision === 'fast';
    const relative = this.worst / (isFast ? this.largest : Math.sqrt(this.squares / this.count));
    if (relative <= tolerances[this.precision]) return relative;
    const size = isFast ? 'largest value' : 'root mean square';
    throw new Error(`wrong answer: ${name} is off by ${relative.toPrecision(2)} of its ${size}`);
  }
}
