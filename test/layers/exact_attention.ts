/** Multi-head attention with its projections as plain loops in float64, by the formula. */
import type * as tf from '@tensorflow/tfjs-core';
import type * as tfl from '@tensorflow/tfjs-layers';
import type {HostTensor} from '../attention_inputs.js';

type Numbers = ArrayLike<number>;

/** What the loops need to know of a layer and of its inputs. */
export interface AttentionProblem {
  query: HostTensor;
  value: HostTensor;
  key: HostTensor;
  /** By Keras's names, 'query/kernel' and so on. */
  weights: Record<string, HostTensor>;
  scale?: number;
  softcap?: number;
  rotaryBase?: number;
  loraScale?: number;
  isVisible?(sample: number, head: number, query: number, key: number): boolean;
}

export async function toHost(t: tf.Tensor): Promise<HostTensor> {
  return {shape: t.shape, values: Float32Array.from(await t.data())};
}

/** The weights of an attention layer by their names without that of the layer. */
export async function weightsByName(layer: tfl.layers.Layer): Promise<Record<string, HostTensor>> {
  const entries = layer.weights.map(async (weight) => [attentionWeightName(weight), await toHost(weight.read())]);
  return Object.fromEntries(await Promise.all(entries));
}

/** 'query/kernel' of 'layer/query/kernel'. */
export function attentionWeightName(weight: tfl.LayerVariable): string {
  return weight.originalName.split('/').slice(-2).join('/');
}

/** The output, [B, Sq, out]. */
export function exactAttention(problem: AttentionProblem): Numbers {
  const {weights, scale, softcap = 0, rotaryBase, isVisible = () => true} = problem;
  const [B, Sq] = problem.query.shape;
  const [, Sk] = problem.value.shape;
  const [, H, D] = weights['query/kernel'].shape;
  const [, Hk, Dv] = weights['value/kernel'].shape;
  const project = (name: string, {values}: {values: Numbers}, outputs: number) =>
    exactProjection(values, weights, name, outputs, problem.loraScale ?? 1);
  const q = project('query', problem.query, H * D);
  const k = project('key', problem.key, Hk * D);
  const v = project('value', problem.value, Hk * Dv);
  if (rotaryBase) {
    rotate(q, {length: Sq, heads: H, depth: D}, rotaryBase);
    rotate(k, {length: Sk, heads: Hk, depth: D}, rotaryBase);
  }
  const attended = new Float64Array(B * Sq * H * Dv);
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      const keyHead = Math.floor((h * Hk) / H);
      for (let i = 0; i < Sq; i++) {
        const row = ((b * Sq + i) * H + h) * D;
        const exps = Array.from({length: Sk}, (_, j) => {
          if (!isVisible(b, h, i, j)) return 0;
          const column = ((b * Sk + j) * Hk + keyHead) * D;
          let score = 0;
          for (let d = 0; d < D; d++) score += q[row + d] * k[column + d];
          score *= scale ?? 1 / Math.sqrt(D);
          return Math.exp(softcap ? softcap * Math.tanh(score / softcap) : score);
        });
        const sum = exps.reduce((total, x) => total + x, 0);
        for (let j = 0; j < Sk; j++) {
          for (let d = 0; sum > 0 && d < Dv; d++) {
            const x = v[((b * Sk + j) * Hk + keyHead) * Dv + d];
            attended[((b * Sq + i) * H + h) * Dv + d] += (exps[j] / sum) * x;
          }
        }
      }
    }
  }
  const outputs = weights['attention_output/kernel'].shape[2];
  return project('attention_output', {values: attended}, outputs);
}

/** x·(W + scale·A·B) + bias for rows x. */
function exactProjection(
  x: Numbers,
  weights: Record<string, HostTensor>,
  name: string,
  outputs: number,
  loraScale: number,
): Float64Array {
  const kernel = Float64Array.from(weights[`${name}/kernel`].values);
  const [a, b] = [weights[`${name}/lora_a`], weights[`${name}/lora_b`]];
  const inputs = kernel.length / outputs;
  for (let i = 0; a && i < kernel.length; i++) {
    const rank = a.shape[1];
    for (let r = 0; r < rank; r++) {
      kernel[i] += loraScale * a.values[Math.floor(i / outputs) * rank + r] * b.values[r * outputs + (i % outputs)];
    }
  }
  const bias = weights[`${name}/bias`]?.values;
  return Float64Array.from({length: (x.length / inputs) * outputs}, (_, at) => {
    const [row, column] = [Math.floor(at / outputs), at % outputs];
    let sum = bias ? bias[column] : 0;
    for (let i = 0; i < inputs; i++) sum += x[row * inputs + i] * kernel[i * outputs + column];
    return sum;
  });
}

/** Turns pairs of elements half a head apart, as complex numbers, by the position times the pair's frequency. */
function rotate(x: Float64Array, sizes: {length: number; heads: number; depth: number}, base: number): void {
  const {length, heads, depth} = sizes;
  const half = depth / 2;
  for (let start = 0; start < x.length; start += depth) {
    const position = Math.floor(start / (heads * depth)) % length;
    for (let d = 0; d < half; d++) {
      const angle = position / base ** (d / half);
      const [re, im] = [x[start + d], x[start + d + half]];
      x[start + d] = re * Math.cos(angle) - im * Math.sin(angle);
      x[start + d + half] = re * Math.sin(angle) + im * Math.cos(angle);
    }
  }
}
