/** How far results lie from the right answer, and how far they may. */

import type {Precision} from '../cases.js';

/** Largest error allowed, as a part of the root mean square of the right answer: ten times what float32, or float16, needs. */
const tolerances: Record<Precision, number> = {highest: 1e-3, fast: 3e-2};

/** Gathers how far results lie from the right answer. */
export class ErrorMeter {
  private worst = 0;
  private squares = 0;
  private count = 0;

  constructor(private readonly precision: Precision = 'highest') {}

  compare(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
    for (let i = 0; i < expected.length; i++) {
      const error = Math.abs(actual[i] - expected[i]);
      // Written so that NaN counts as worse than anything.
      if (!(error <= this.worst)) this.worst = error;
      this.squares += expected[i] ** 2;
    }
    this.count += expected.length;
  }

  /** The largest error divided by the root mean square of what was expected. */
  within(name: string): number {
    const relative = this.worst / Math.sqrt(this.squares / this.count);
    if (relative <= tolerances[this.precision]) return relative;
    throw new Error(`wrong answer: ${name} is off by ${relative.toPrecision(2)} of its root mean square`);
  }
}
