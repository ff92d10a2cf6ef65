/** Adam whose learning rate rises over the first steps, then falls as a cosine does, to a tenth. */
import {FusedAdam} from '../../src/optimizers/fused_adam.js';

export interface Schedule {
  peakLearningRate: number;
  steps: number;
}

/** Of the steps. */
const WARM_UP = 0.1;

export class ScheduledAdam extends FusedAdam {
  constructor(private readonly schedule: Schedule) {
    super(schedule.peakLearningRate, 0.9, 0.99);
  }

  /** @param step counted from 0 */
  enterStep(step: number): void {
    const {peakLearningRate, steps} = this.schedule;
    const warmUp = steps * WARM_UP;
    const fallen = Math.max(0, (step - warmUp) / (steps - warmUp));
    const share = Math.min(1, (step + 1) / warmUp) * (0.55 + 0.45 * Math.cos(Math.PI * fallen));
    this.learningRate = peakLearningRate * share;
  }
}
