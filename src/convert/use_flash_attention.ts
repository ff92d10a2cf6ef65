/** Attention in models that were converted from TensorFlow, found and fused. */
import {io} from '@tensorflow/tfjs-core';
import {type AttentionPattern, attentionAround, NotAttention} from './attention_pattern.js';
import {FLASH_ATTENTION_OP, toAttrDefs} from './flash_attention_op.js';
import {GraphReader, type NodeDef, nodeName} from './graph_def.js';

/** Options of {@link useFlashAttention}. */
export interface UseFlashAttentionOptions {
  /** Nodes that `model.execute` is asked for besides the outputs of the signature; they stay as they are. */
  outputs?: string[];
}

/** What {@link useFlashAttention} returns. */
export interface FlashAttentionRewrite {
  /** The model, for `tf.loadGraphModel(tf.io.fromMemory(artifacts))`. Its weights are those of the model given. */
  artifacts: io.ModelArtifacts;
  /** How many times attention was found and replaced. */
  rewritten: number;
  /** Every softmax that stays, and why. */
  leftAlone: {softmax: string; reason: string}[];
}

/**
 * Rewrites a graph model so that its attention runs in `flashAttention`: wherever a product's softmax is multiplied by a
 * third matrix, one node takes the place of all these. The results are the same within rounding; scores, which then do
 * not exist, no longer take memory.
 *
 * Products may be MatMul, BatchMatMul (also V2, V3), _FusedMatMul without an activation, or the Einsum of Keras's
 * MultiHeadAttention; transposed by attributes or a node that exchanges the last two axes. The scores may be scaled, by
 * constants or by an element of a shape, and q or k before; then biases may be added, such as masks. Identity, which is
 * what dropout becomes, may stand anywhere between. Attention whose scores or probabilities are used elsewhere, or are
 * outputs, stays, and so does what is in functions that the graph calls (bodies of loops and branches). Where shapes turn
 * out not to fit `flashAttention`, as head dimensions above 256, the model computes as before.
 *
 * A query row all of whose keys have a bias of −∞ gives 0, not NaN.
 *
 * ```js
 * const node = ['q', 'k', 'v'].map((name) => ({name, op: 'Placeholder', attr: {dtype: {type: 'DT_FLOAT'}}}));
 * node.push(
 *   {name: 'scores', op: 'BatchMatMulV2', input: ['q', 'k'], attr: {adj_y: {b: true}}},
 *   {name: 'probabilities', op: 'Softmax', input: ['scores']},
 *   {name: 'attention', op: 'BatchMatMulV2', input: ['probabilities', 'v']},
 * );
 * const original = {modelTopology: {node, versions: {}}, weightSpecs: [], weightData: new ArrayBuffer(0)};
 *
 * const {artifacts, rewritten} = await tf.useFlashAttention(original);
 * const model = await tf.loadGraphModel(tf.io.fromMemory(artifacts));
 * const x = tf.randomNormal([2, 4, 10, 8]);
 * console.log([rewritten], model.predict({q: x, k: x, v: x}).shape); // [1] [2, 4, 10, 8]
 * model.dispose();
 * ```
 *
 * @param model the model's artifacts, or where to load them: a URL or an IOHandler, as for `tf.loadGraphModel`.
 * @param options see {@link UseFlashAttentionOptions}.
 * @throws Error if this is no graph model, its weights are not in memory, or an output in the options is no node of it.
 */
export async function useFlashAttention(
  model: io.ModelArtifacts | io.IOHandler | io.IOHandlerSync | string,
  {outputs = []}: UseFlashAttentionOptions = {},
): Promise<FlashAttentionRewrite> {
  const artifacts = await loaded(model);
  const topology = artifacts.modelTopology as {node?: NodeDef[]} | undefined;
  if (!Array.isArray(topology?.node)) {
    throw new Error('useFlashAttention: model must be a graph model, whose modelTopology has a list `node`.');
  }
  if (!artifacts.weightData) {
    throw new Error('useFlashAttention: model has no weightData; load it without streaming its weights.');
  }
  const graph = new GraphReader(artifacts, topology.node, outputs);
  const missing = outputs.find((output) => !graph.has(nodeName(output)));
  if (missing !== undefined) throw new Error(`useFlashAttention: outputs names '${missing}', no node of the graph.`);

  const patterns: AttentionPattern[] = [];
  const leftAlone: FlashAttentionRewrite['leftAlone'] = [];
  for (const softmax of graph.nodes.filter(({op}) => op === 'Softmax')) {
    try {
      patterns.push(attentionAround(graph, softmax));
    } catch (error) {
      if (!(error instanceof NotAttention)) throw error;
      leftAlone.push({softmax: softmax.name, reason: error.message});
    }
  }
  const node = rewrite(graph, patterns);
  return {
    artifacts: {...artifacts, modelTopology: {...topology, node}},
    rewritten: patterns.length,
    leftAlone,
  };
}

async function loaded(model: Parameters<typeof useFlashAttention>[0]): Promise<io.ModelArtifacts> {
  const source = typeof model === 'string' ? (io.getLoadHandlers(model)[0] ?? io.browserHTTPRequest(model)) : model;
  if (!isHandler(source)) return source;
  if (!source.load) throw new Error('useFlashAttention: model is an IOHandler that cannot load.');
  return source.load();
}

function isHandler(
  source: io.ModelArtifacts | io.IOHandler | io.IOHandlerSync,
): source is io.IOHandler | io.IOHandlerSync {
  return 'load' in source || 'save' in source;
}

/** The nodes with attention in place of each pattern's product, and without what is then of no use. */
function rewrite(graph: GraphReader, patterns: AttentionPattern[]): NodeDef[] {
  const inPlaceOf = new Map(patterns.map((pattern) => [pattern.product, attentionNodes(pattern)]));
  const replaced = new Set(patterns.flatMap((pattern) => pattern.replaced));
  const kept = graph.nodes.flatMap((node) => inPlaceOf.get(node) ?? (replaced.has(node) ? [] : [node]));
  return withoutUnused(graph, kept, [...replaced]);
}

function attentionNodes(pattern: AttentionPattern): NodeDef[] {
  const {q, k, v, scale, bshd, product, outputBias} = pattern;
  const nodes: NodeDef[] = [];
  const add = (suffix: string, op: string, input: string[]) => {
    const name = `${product.name}/flash_attention/${suffix}`;
    nodes.push({name, op, input});
    return name;
  };
  const query = pattern.factors.reduce((x, {op, input}, i) => add(`query_${i}`, op, [x, input]), q.input);
  const bias = pattern.biases
    .slice(1)
    .reduce((sum, each, i) => add(`bias_${i}`, 'AddV2', [sum, each]), pattern.biases[0]);
  const name = outputBias === undefined ? product.name : `${product.name}/flash_attention`;
  nodes.push({
    name,
    op: FLASH_ATTENTION_OP,
    input: [query, k.input, v.input, ...(bias === undefined ? [] : [bias])],
    attr: toAttrDefs({
      scale,
      transpose_q: q.transposed,
      transpose_k: k.transposed,
      transpose_v: v.transposed,
      bshd,
    }),
  });
  if (outputBias !== undefined) nodes.push({name: product.name, op: 'AddV2', input: [name, outputBias]});
  return nodes;
}

/** Drops what only the replaced nodes used: without a signature, tfjs would take it for an output. */
function withoutUnused(graph: GraphReader, nodes: NodeDef[], replaced: NodeDef[]): NodeDef[] {
  const uses = new Map<string, number>();
  const count = ({input = []}: NodeDef, by: number) => {
    for (const name of input.map(nodeName)) uses.set(name, (uses.get(name) ?? 0) + by);
  };
  for (const node of nodes) count(node, 1);
  const unused = new Set<NodeDef>();
  const drop = ({input = []}: NodeDef): void => {
    for (const each of input) {
      const node = graph.producer(each);
      const isUsed = !node || unused.has(node) || (uses.get(node.name) ?? 0) > 0;
      if (isUsed || graph.isOutput(node) || node.op.startsWith('Placeholder') || replaced.includes(node)) continue;
      unused.add(node);
      count(node, -1);
      drop(node);
    }
  };
  for (const node of replaced) drop(node);
  return nodes.filter((node) => !unused.has(node));
}
