/** The feed-forward net of transformerBlock: the gradients of its dense layers, and what a training step of it takes. */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import {type TransformerBlockArgs, transformerBlock} from '../../src/layers/index.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

const WIDTH = 16;
const args: TransformerBlockArgs[] = [
  {numHeads: 2},
  {numHeads: 2, activation: 'gelu', mlpUnits: 11},
  {numHeads: 2, activation: 'relu', mlpUnits: 10},
  {numHeads: 2, useBias: false},
];

const normal = (shape: number[], seed: number) => tf.randomNormal(shape, 0, 1, 'float32', seed);

/** A block with random weights, and its loss for x. */
function makeBlock(of: TransformerBlockArgs) {
  const block = transformerBlock({...of, inputShape: [5, WIDTH]});
  const model = tfl.sequential({layers: [block]});
  tf.tidy(() => block.setWeights(block.weights.map(({shape}, i) => tf.mul(normal(shape as number[], i + 1), 0.3))));
  const variable = (name: string) =>
    block.weights.find(({originalName}) => originalName.endsWith(name))?.read() as tf.Variable | undefined;
  return {block, model, variable};
}

const sumOf = (y: tf.Tensor) => tf.sum(tf.mul(y, normal(y.shape, 99))) as tf.Scalar;

describeOnBackends('The feed-forward net of transformerBlock', () => {
  for (const of of args) {
    it(`has the gradients of its layers: ${JSON.stringify(of)}`, async () => {
      const {block, model, variable} = makeBlock(of);
      const x = normal([3, 5, WIDTH], 50);
      const names = ['mlp_in/kernel', 'mlp_in/bias', 'mlp_out/kernel', 'mlp_out/bias'].filter(variable);
      expect(names.length).toBe(of.useBias === false ? 2 : 4);
      const variables = names.map((name) => variable(name) as tf.Variable);
      // Without attention: its output's weights are 0, so that what the net sees is x alone.
      for (const name of ['attention_output/kernel', 'attention_output/bias']) {
        const weight = variable(name);
        weight?.assign(tf.zeros(weight.shape));
      }
      const activate = tfl.layers.activation({activation: (of.activation ?? 'gelu_new') as 'relu'});
      const composed = () => {
        const {mean, variance} = tf.moments(x, -1, true);
        const centred = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5)));
        const [gamma, beta] = ['mlp_norm/gamma', 'mlp_norm/beta'].map((name) => variable(name) as tf.Tensor);
        const rows = tf.reshape(tf.add(tf.mul(centred, gamma), beta), [15, WIDTH]);
        const dense = (y: tf.Tensor, name: string) => {
          const [kernel, bias] = ['kernel', 'bias'].map((of_) => variable(`${name}/${of_}`));
          const product = tf.matMul(y as tf.Tensor2D, kernel as unknown as tf.Tensor2D);
          return bias ? tf.add(product, bias) : product;
        };
        const widened = activate.apply(dense(rows, 'mlp_in')) as tf.Tensor;
        return tf.add(x, tf.reshape(dense(widened, 'mlp_out'), x.shape));
      };
      const [actual, expected] = [() => block.apply(x) as tf.Tensor, composed].map((f) => {
        const {value, grads} = tf.variableGrads(() => sumOf(f()), variables);
        return [f(), value, ...variables.map(({name}) => grads[name])];
      });
      for (const [i, result] of actual.entries()) {
        const right = await expected[i].data();
        const largest = Math.max(...Array.from(right, Math.abs));
        expectWithin(['y', 'loss', ...names][i], await result.data(), right, 2e-6 * largest);
      }
      for (const each of [model, activate]) each.dispose();
    });
  }

  it('takes one kernel for gelu, one for its gradient, and copies no weight', async () => {
    const {block, model, variable} = makeBlock({numHeads: 2});
    const x = normal([3, 5, WIDTH], 50);
    const variables = ['mlp_in/kernel', 'mlp_in/bias', 'mlp_out/kernel', 'mlp_out/bias'].map(
      (name) => variable(name) as tf.Variable,
    );
    const {kernels} = await tf.profile(() => tf.variableGrads(() => sumOf(block.apply(x) as tf.Tensor), variables));
    const count = (kernel: string) => kernels.filter(({name}) => name === kernel).length;
    expect(['Gelu', 'GeluBackward', 'ColumnSums', 'Transpose'].map(count)).toEqual([1, 1, 2, 0]);
    model.dispose();
  });
});
