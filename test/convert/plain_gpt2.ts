/** GPT-2 in float64 and plain loops, from the tensors of a checkpoint: what loadGpt2 is compared with. */

/** The fields of config.json that the loops need. */
export interface PlainConfig {
  n_layer: number;
  n_head: number;
  n_embd: number;
  layer_norm_epsilon: number;
}

/** Elements of a checkpoint's tensors, row-major, by their names without `transformer.`. */
export type PlainWeights = Record<string, ArrayLike<number>>;

/** A vector for each place of the sequence. */
type Rows = number[][];

/** The logits [S][V] of a sequence of tokens. */
export function plainGpt2(config: PlainConfig, weights: PlainWeights, tokens: number[]): Rows {
  const width = config.n_embd;
  const row = (name: string, i: number) => Array.from({length: width}, (_, j) => weights[name][i * width + j]);
  let x = tokens.map((token, place) => sum(row('wte.weight', token), row('wpe.weight', place)));
  for (let n = 0; n < config.n_layer; n++) {
    const weightsOf = (part: string) => ({
      weight: weights[`h.${n}.${part}.weight`],
      bias: weights[`h.${n}.${part}.bias`],
    });
    const norm = (rows: Rows, part: string) => layerNorm(rows, weightsOf(part), config.layer_norm_epsilon);
    const qkv = conv1d(norm(x, 'ln_1'), weightsOf('attn.c_attn'));
    x = add(x, conv1d(causalAttention(qkv, config.n_head), weightsOf('attn.c_proj')));
    const hidden = conv1d(norm(x, 'ln_2'), weightsOf('mlp.c_fc')).map((values) => values.map(geluNew));
    x = add(x, conv1d(hidden, weightsOf('mlp.c_proj')));
  }
  const last = {weight: weights['ln_f.weight'], bias: weights['ln_f.bias']};
  const head = weights['lm_head.weight'] ?? weights['wte.weight'];
  return layerNorm(x, last, config.layer_norm_epsilon).map((values) =>
    Array.from({length: head.length / width}, (_, token) =>
      values.reduce((dot, value, j) => dot + value * head[token * width + j], 0),
    ),
  );
}

interface Affine {
  weight: ArrayLike<number>;
  bias: ArrayLike<number>;
}

const sum = (a: number[], b: number[]) => a.map((value, i) => value + b[i]);
const add = (a: Rows, b: Rows) => a.map((values, i) => sum(values, b[i]));

/** rows·weight + bias, with weight [in, out], as GPT-2 stores it. */
function conv1d(rows: Rows, {weight, bias}: Affine): Rows {
  const outputs = bias.length;
  return rows.map((values) =>
    Array.from({length: outputs}, (_, out) =>
      values.reduce((dot, value, i) => dot + value * weight[i * outputs + out], bias[out]),
    ),
  );
}

function layerNorm(rows: Rows, {weight, bias}: Affine, epsilon: number): Rows {
  return rows.map((values) => {
    const mean = values.reduce((total, value) => total + value, 0) / values.length;
    const variance = values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length;
    return values.map((value, i) => ((value - mean) / Math.sqrt(variance + epsilon)) * weight[i] + bias[i]);
  });
}

/** Rows of q, k and v one after the other, each of its heads one after the other. */
function causalAttention(qkv: Rows, heads: number): Rows {
  const width = qkv[0].length / 3;
  const size = width / heads;
  return qkv.map((row, i) =>
    Array.from({length: heads}, (_, head) => {
      const part = (values: number[], which: number) =>
        values.slice(which * width + head * size, which * width + (head + 1) * size);
      const q = part(row, 0);
      const visible = qkv.slice(0, i + 1);
      const scores = visible.map((other) => {
        const k = part(other, 1);
        return q.reduce((dot, value, d) => dot + value * k[d], 0) / Math.sqrt(size);
      });
      const largest = Math.max(...scores);
      const exponentials = scores.map((score) => Math.exp(score - largest));
      const total = exponentials.reduce((all, one) => all + one, 0);
      return q.map((_, d) =>
        visible.reduce((mean, other, j) => mean + (exponentials[j] / total) * part(other, 2)[d], 0),
      );
    }).flat(),
  );
}

function geluNew(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}
