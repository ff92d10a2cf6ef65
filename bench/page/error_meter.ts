/** How far results lie from the right answer, and how far they may. */

/** Largest error allowed, as a part of the root mean square of the right answer: ten times what float32 needs here. */
const tolerance = 1e-3;

/** Gathers how far results lie from the right answer. */
export class ErrorMeter {
  private worst = 0;
  private squares = 0;
  private count = 0;

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
    if (relative <= tolerance) return relative;
    throw new Error(`wrong answer: ${name} is off by ${relative.toPrecision(2)} of its root mean square`);
  }
}
