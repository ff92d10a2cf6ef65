/** config.json of a GPT-2 checkpoint, checked. */

/** The architecture that a config.json describes. */
export interface Gpt2Config {
  layers: number;
  heads: number;
  width: number;
  /** Width within the feed-forward blocks. */
  hiddenWidth: number;
  contextLength: number;
  vocabSize: number;
  epsilon: number;
  /** Whether the output shares the weights of the token embedding. */
  tied: boolean;
}

/** All three names stand for the approximation by tanh. */
const ACTIVATIONS = ['gelu_new', 'gelu_fast', 'gelu_pytorch_tanh'];

/** Fields that must have the value with which GPT-2 was published, if they are there. */
const ONLY_VALUES = {
  scale_attn_weights: true,
  scale_attn_by_inverse_layer_idx: false,
  reorder_and_upcast_attn: false,
  add_cross_attention: false,
};

/** @throws Error that names the field that is missing, wrong or asks for what is not supported. */
export function readGpt2Config(config: object): Gpt2Config {
  const fields = config as Record<string, unknown>;
  const assertOneOf = (field: string, values: unknown[], value: unknown) => {
    if (values.includes(value)) return;
    const choice = values.map((one) => JSON.stringify(one)).join(' or ');
    throw new Error(`loadGpt2: config.${field} must be ${choice}, got ${JSON.stringify(value)}.`);
  };
  const size = (field: string, value = fields[field]) => {
    if (Number.isInteger(value) && (value as number) > 0) return value as number;
    throw new Error(`loadGpt2: config.${field} must be an integer from 1 on, got ${JSON.stringify(value)}.`);
  };
  assertOneOf('model_type', ['gpt2'], fields.model_type);
  assertOneOf('activation_function', ACTIVATIONS, fields.activation_function ?? ACTIVATIONS[0]);
  for (const [field, value] of Object.entries(ONLY_VALUES)) assertOneOf(field, [value], fields[field] ?? value);
  assertOneOf('tie_word_embeddings', [true, false], fields.tie_word_embeddings ?? true);
  const width = size('n_embd');
  const heads = size('n_head');
  if (width % heads !== 0) {
    throw new Error(`loadGpt2: config.n_embd must be a multiple of config.n_head, got ${width} and ${heads}.`);
  }
  const epsilon = fields.layer_norm_epsilon ?? 1e-5;
  if (typeof epsilon !== 'number' || !(epsilon > 0)) {
    throw new Error(`loadGpt2: config.layer_norm_epsilon must be above 0, got ${JSON.stringify(epsilon)}.`);
  }
  return {
    layers: size('n_layer'),
    heads,
    width,
    hiddenWidth: size('n_inner', fields.n_inner ?? 4 * width),
    contextLength: size('n_positions'),
    vocabSize: size('vocab_size'),
    epsilon,
    tied: (fields.tie_word_embeddings ?? true) as boolean,
  };
}
