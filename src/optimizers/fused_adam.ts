/** The optimizer `fusedAdam`. */
import {AdamOptimizer, engine, type Tensor, tidy, type Variable, zerosLike} from '@tensorflow/tfjs-core';
import {registerAdamStepFallback} from '../../kernels/fallback/adam_step.js';
import {AdamStep, type AdamStepAttrs} from '../kernel_names.js';

/** What the class of tfjs keeps for each weight, by its place among the gradients. */
interface Moment {
  originalName: string;
  variable: Variable;
}

interface Moments {
  accumulatedFirstMoment: Moment[];
  accumulatedSecondMoment: Moment[];
}

/** The optimizer that {@link fusedAdam} makes. A model that is saved with it is loaded with `tf.train.adam`. */
export class FusedAdam extends AdamOptimizer {
  override applyGradients(variableGradients: Parameters<AdamOptimizer['applyGradients']>[0]): void {
    const gradients: [name: string, gradient: Tensor | null][] = Array.isArray(variableGradients)
      ? variableGradients.map(({name, tensor}) => [name, tensor])
      : Object.entries(variableGradients);
    registerAdamStepFallback(engine().backendName);
    const step = this.iterations + 1;
    const {learningRate, beta1, beta2} = this;
    const attrs: AdamStepAttrs = {
      learningRate,
      beta1,
      beta2,
      epsilon: this.epsilon ?? engine().backend.epsilon(),
      correction1: 1 - beta1 ** step,
      correction2: 1 - beta2 ** step,
    };
    tidy(() => {
      gradients.forEach(([name, gradient], place) => {
        const value = engine().registeredVariables[name];
        const {firstMoment, secondMoment} = this.momentsOf(value, place);
        if (!gradient) return;
        const inputs = {value, gradient, firstMoment, secondMoment};
        const after = engine().runKernel(AdamStep, inputs, {...attrs}) as Tensor[];
        for (const [i, variable] of [value, firstMoment, secondMoment].entries()) variable.assign(after[i]);
      });
    });
    this.incrementIterations();
  }

  private momentsOf(value: Variable, place: number): {firstMoment: Variable; secondMoment: Variable} {
    const {accumulatedFirstMoment, accumulatedSecondMoment} = this as unknown as Moments;
    const of = (moments: Moment[], suffix: string) => {
      moments[place] ??= {
        originalName: `${value.name}/${suffix}`,
        variable: tidy(() => zerosLike(value).variable(false)),
      };
      return moments[place].variable;
    };
    return {firstMoment: of(accumulatedFirstMoment, 'm'), secondMoment: of(accumulatedSecondMoment, 'v')};
  }
}

/**
 * `tf.train.adam` in one kernel per weight, where tfjs takes some twenty: small models train several times faster, whose
 * steps consist of little else. The numbers are the same within rounding, and so is what `getWeights` and `model.save`
 * keep of it.
 *
 * Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2014, arXiv 1412.6980), algorithm 1.
 *
 * ```js
 * const x = tf.variable(tf.scalar(3));
 * const optimizer = tf.fusedAdam(0.5);
 * for (let step = 0; step < 60; step++) optimizer.minimize(() => x.square(), false, [x]);
 * console.log(Math.abs((await x.data())[0]) < 0.5); // [true]
 * ```
 *
 * @param learningRate by default 0.001; `optimizer.learningRate` may be set between steps.
 * @param beta1 how much of the first moment stays in a step, in [0, 1).
 * @param beta2 how much of the second moment stays in a step, in [0, 1).
 * @param epsilon is added to the root of the second moment. Default: that of the backend, 1e-7 with float32.
 * @throws Error that names the argument.
 */
export function fusedAdam(learningRate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon?: number): FusedAdam {
  if (!(learningRate >= 0)) throw new Error(`fusedAdam: learningRate must be at least 0, got ${learningRate}.`);
  for (const [name, beta] of Object.entries({beta1, beta2})) {
    if (!(beta >= 0 && beta < 1)) throw new Error(`fusedAdam: ${name} must be at least 0 and below 1, got ${beta}.`);
  }
  if (epsilon !== undefined && !(epsilon > 0)) throw new Error(`fusedAdam: epsilon must be above 0, got ${epsilon}.`);
  return new FusedAdam(learningRate, beta1, beta2, epsilon);
}
