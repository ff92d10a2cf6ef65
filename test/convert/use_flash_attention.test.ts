/** useFlashAttention: graph models with attention in many forms give the same as before, and others stay as they are. */
import {useFlashAttention} from '../../src/index.js';
import * as tf from '../../src/tf.js';
import {expectWithin} from '../attention_results.js';
import {describeOnBackends, restoreBackendAfterwards} from '../backends.js';

interface Node {
  name: string;
  op: string;
  input: string[];
  attr: Record<string, object>;
}

const node = (name: string, op: string, input: string[] = [], attr: Record<string, object> = {}): Node => ({
  name,
  op,
  input,
  attr,
});
const placeholder = (name: string) => node(name, 'Placeholder', [], {dtype: {type: 'DT_FLOAT'}});
const flag = (name: string) => ({[name]: {b: true}});
const einsum = (name: string, equation: string, input: string[]) =>
  node(name, 'Einsum', input, {equation: {s: btoa(equation)}});
/** The usual last nodes: softmax of 'logits', times v. */
const ending = [node('p', 'Softmax', ['logits']), node('out', 'BatchMatMulV2', ['p', 'v'])];

interface Constant {
  shape: number[];
  values: number[];
  dtype?: 'float32' | 'int32';
}
const number = (value: number): Constant => ({shape: [], values: [value]});
const integers = (...values: number[]): Constant => ({shape: [values.length], values, dtype: 'int32'});

interface Graph {
  /** Without constants, and without placeholders for the inputs. */
  nodes: Node[];
  constants?: Record<string, Constant>;
  /** Shapes. */
  inputs?: Record<string, number[]>;
  /** Default: 'out' is in the signature. */
  outputs?: string[] | 'unsigned';
}

const SHAPE = [2, 3, 5, 4];
const INPUTS = {q: SHAPE, k: [2, 3, 7, 4], v: [2, 3, 7, 6]};

async function artifactsOf({nodes, constants = {}, inputs = INPUTS, outputs = ['out']}: Graph) {
  const tensors = Object.fromEntries(
    Object.entries(constants).map(([name, {shape, values, dtype}]) => [name, tf.tensor(values, shape, dtype)]),
  );
  const {data, specs} = await tf.io.encodeWeights(tensors);
  tf.dispose(tensors);
  const node_ = [
    ...Object.keys(inputs).map(placeholder),
    ...Object.entries(constants).map(([name, {dtype = 'float32'}]) =>
      node(name, 'Const', [], {dtype: {type: dtype === 'int32' ? 'DT_INT32' : 'DT_FLOAT'}}),
    ),
    ...nodes,
  ];
  const artifacts: tf.io.ModelArtifacts = {
    modelTopology: {node: node_, versions: {producer: 1, minConsumer: 1}},
    weightSpecs: specs,
    weightData: data,
    ...(outputs !== 'unsigned' && {
      userDefinedMetadata: {
        signature: {outputs: Object.fromEntries(outputs.map((name) => [name, {name: `${name}:0`}]))},
      },
    }),
  };
  return artifacts;
}

const nodesOf = ({modelTopology}: tf.io.ModelArtifacts) => (modelTopology as {node: Node[]}).node;

/** What the model makes of normal numbers. */
async function run(artifacts: tf.io.ModelArtifacts, inputs: Record<string, number[]>, given: tf.NamedTensorMap = {}) {
  const model = await tf.loadGraphModel(tf.io.fromMemory(artifacts));
  const result = tf.tidy(() => {
    const tensors = Object.entries(inputs).map(([name, shape], i) => [
      name,
      tf.randomNormal(shape, 0, 1, 'float32', i + 1),
    ]);
    return model.execute({...Object.fromEntries(tensors), ...given}) as tf.Tensor;
  });
  const values = await result.data();
  const {shape} = result;
  result.dispose();
  model.dispose();
  return {values, shape};
}

async function expectSameResult(graph: Graph, rewritten: tf.io.ModelArtifacts, given: tf.NamedTensorMap = {}) {
  const inputs = graph.inputs ?? INPUTS;
  const [before, after] = [await run(await artifactsOf(graph), inputs, given), await run(rewritten, inputs, given)];
  expect(after.shape).toEqual(before.shape);
  const largest = Math.max(...Array.from(before.values, Math.abs));
  expectWithin('result', after.values, before.values, 2e-6 * Math.max(1, largest));
}

const mask = (...shape: number[]): Constant => {
  const size = tf.util.sizeFromShape(shape);
  return {shape, values: Array.from({length: size}, (_, i) => (i % 3 === 1 ? -1e9 : 0))};
};

/** What the op does with its inputs is tried on every backend, how it is found on one. */
const ON_EVERY_BACKEND = new Set([
  'a transposed k, the scores divided by a constant, a constant mask, and dropout',
  'q and v transposed by attributes, k as it comes',
  'rank 3, and a bias',
  "Einsum as in Keras's MultiHeadAttention",
]);

/** Each with the nodes besides inputs and attention that are left. */
const fused: Record<string, Graph & {left?: string[]}> = {
  'adj_y and nothing else': {nodes: [node('logits', 'BatchMatMul', ['q', 'k'], flag('adj_y')), ...ending]},
  'a transposed k, the scores divided by a constant, a constant mask, and dropout': {
    nodes: [
      node('kT', 'Transpose', ['k', 'perm']),
      node('scores', 'BatchMatMulV2', ['q:0', 'kT']),
      node('scaled', 'RealDiv', ['scores', 'two']),
      node('logits', 'AddV2', ['scaled', 'mask']),
      node('p', 'Softmax', ['logits']),
      node('dropped', 'Identity', ['p']),
      node('out', 'BatchMatMulV2', ['dropped', 'v']),
    ],
    constants: {perm: integers(0, 1, 3, 2), two: number(2), mask: mask(2, 1, 1, 7)},
    left: ['mask'],
  },
  'q times a constant, without a signature': {
    nodes: [
      node('scaled', 'Mul', ['half', 'q']),
      node('same', 'Identity', ['scaled']),
      node('logits', 'BatchMatMulV2', ['same', 'k'], flag('adj_y')),
      ...ending,
    ],
    constants: {half: number(0.5)},
    outputs: 'unsigned',
  },
  'k over the root of a constant, and two biases of which one is computed': {
    nodes: [
      node('root', 'Sqrt', ['four']),
      node('scaled', 'RealDiv', ['k', 'root']),
      node('scores', 'BatchMatMulV2', ['q', 'scaled'], flag('adj_y')),
      node('computed', 'Mul', ['b', 'ten']),
      node('biased', 'Add', ['computed', 'scores']),
      node('logits', 'AddV2', ['mask', 'biased']),
      ...ending,
    ],
    constants: {four: number(4), ten: number(10), mask: mask(5, 7)},
    inputs: {...INPUTS, b: [3, 1, 7]},
    left: ['AddV2', 'Mul', 'b', 'mask', 'ten'],
  },
  'the root of a dimension that is read at run time, and a negative factor': {
    nodes: [
      node('shape', 'Shape', ['k']),
      node('depth', 'StridedSlice', ['shape', 'last', 'zero', 'one'], {shrink_axis_mask: {i: '1'}}),
      node('float', 'Cast', ['depth'], {SrcT: {type: 'DT_INT32'}, DstT: {type: 'DT_FLOAT'}}),
      node('root', 'Sqrt', ['float']),
      node('scores', 'BatchMatMulV2', ['q', 'k'], flag('adj_y')),
      node('scaled', 'RealDiv', ['scores', 'root']),
      node('logits', 'Mul', ['minus', 'scaled']),
      ...ending,
    ],
    constants: {last: integers(-1), zero: integers(0), one: integers(1), minus: number(-1)},
    left: 'Cast,Mul,RealDiv,Shape,Sqrt,StridedSlice,last,minus,one,zero'.split(','),
  },
  'q and v transposed by attributes, k as it comes': {
    nodes: [
      node('logits', 'BatchMatMulV2', ['q', 'k'], flag('adj_x')),
      node('p', 'Softmax', ['logits']),
      node('out', 'BatchMatMulV2', ['p', 'v'], flag('adj_y')),
    ],
    inputs: {q: [2, 3, 4, 5], k: [2, 3, 4, 7], v: [2, 3, 6, 7]},
  },
  'rank 3, and a bias': {
    nodes: [
      node('scores', 'BatchMatMulV2', ['q', 'k'], flag('adj_y')),
      node('logits', 'AddV2', ['scores', 'mask']),
      ...ending,
    ],
    constants: {mask: mask(3, 5, 7)},
    inputs: {q: [3, 5, 4], k: [3, 7, 4], v: [3, 7, 4]},
    left: ['mask'],
  },
  '_FusedMatMul with biases': {
    nodes: [
      node('logits', '_FusedMatMul', ['q', 'k', 'b'], {
        ...flag('transpose_b'),
        fused_ops: {list: {s: [btoa('BiasAdd')]}},
        num_args: {i: 1},
      }),
      node('p', 'Softmax', ['logits']),
      node('out', '_FusedMatMul', ['p', 'v', 'c'], {fused_ops: {list: {s: [btoa('BiasAdd')]}}, num_args: {i: 1}}),
    ],
    inputs: {q: [5, 4], k: [7, 4], v: [7, 6], b: [7], c: [6]},
    left: ['AddV2', 'b', 'c'],
  },
  "Einsum as in Keras's MultiHeadAttention": {
    nodes: [
      node('query', 'Mul', ['q', 'half']),
      einsum('scores', 'aecd,abcd->acbe', ['k', 'query']),
      node('logits', 'AddV2', ['scores', 'mask']),
      node('p', 'Softmax', ['logits']),
      einsum('out', 'acbe,aecd->abcd', ['p', 'v']),
    ],
    constants: {half: number(0.5), mask: mask(2, 1, 5, 7)},
    inputs: {q: [2, 5, 3, 4], k: [2, 7, 3, 4], v: [2, 7, 3, 4]},
    left: ['mask'],
  },
  'Einsum in other letters': {
    nodes: [
      einsum('logits', 'BTNH,BFNH->BNFT', ['k', 'q']),
      node('p', 'Softmax', ['logits']),
      einsum('out', 'BNFT,BTNH->BFNH', ['p', 'v']),
    ],
    inputs: {q: [2, 5, 3, 4], k: [2, 7, 3, 4], v: [2, 7, 3, 4]},
  },
};

const plain = [node('logits', 'BatchMatMulV2', ['q', 'k'], flag('adj_y')), ...ending];
const after = (op: string, ...others: string[]) => [
  node('scores', 'BatchMatMulV2', ['q', 'k'], flag('adj_y')),
  node('logits', op, ['scores', ...others]),
  ...ending,
];

/** Recognised, but of shapes that flashAttention does not take. */
const unfitting: Record<string, Graph> = {
  'head dimensions above 256': {
    nodes: plain,
    inputs: {q: [2, 3, 257], k: [2, 3, 257], v: [2, 3, 257]},
  },
  'head dimensions above 256, in Einsum': {
    nodes: [
      einsum('scores', 'aecd,abcd->acbe', ['k', 'q']),
      node('logits', 'AddV2', ['scores', 'b']),
      node('p', 'Softmax', ['logits']),
      einsum('out', 'acbe,aecd->abcd', ['p', 'v']),
    ],
    inputs: {q: [2, 5, 2, 4], k: [2, 7, 2, 4], v: [2, 7, 2, 257], b: [2, 1, 5, 7]},
  },
  'batches that broadcast': {
    nodes: after('AddV2', 'b'),
    inputs: {q: [1, 3, 5, 4], k: [1, 3, 7, 4], v: [2, 3, 7, 4], b: [2, 1, 5, 7]},
  },
  'a bias of more axes than the scores': {
    nodes: after('AddV2', 'b'),
    inputs: {q: [3, 5, 4], k: [3, 7, 4], v: [2, 3, 7, 4], b: [2, 3, 5, 7]},
  },
  'rank 5': {
    nodes: plain,
    inputs: {q: [2, 1, 3, 5, 4], k: [2, 1, 3, 7, 4], v: [2, 1, 3, 7, 4]},
  },
};

const leftAlone: Record<string, Graph & {reason: RegExp}> = {
  'scores that are an output': {nodes: plain, outputs: ['out', 'logits'], reason: /^logits is an output of the model$/},
  'probabilities that are used elsewhere': {
    nodes: [...plain, node('more', 'Relu', ['p'])],
    reason: /^p is used more than once, by out, more$/,
  },
  'a softmax over another axis': {
    nodes: after('Transpose', 'perm'),
    constants: {perm: integers(0, 1, 3, 2)},
    reason: /^its logits come through logits, Transpose$/,
  },
  'scores times a matrix': {
    nodes: after('Mul', 'm'),
    inputs: {...INPUTS, m: [5, 7]},
    reason: /scaled by m, which is not known to be a single number/,
  },
  'a factor that would give the scores another axis': {
    nodes: after('Mul', 'm'),
    constants: {m: {shape: [1, 1, 1, 1, 1], values: [2]}},
    reason: /scaled by m, which is not known/,
  },
  'a bias before the factor': {
    nodes: [
      node('scores', 'BatchMatMulV2', ['q', 'k'], flag('adj_y')),
      node('biased', 'AddV2', ['scores', 'b']),
      node('logits', 'Mul', ['biased', 'half']),
      ...ending,
    ],
    constants: {half: number(0.5)},
    inputs: {...INPUTS, b: [7]},
    reason: /^its scores are scaled when a bias has been added/,
  },
  'logits that are no product': {
    nodes: [node('logits', 'Relu', ['q']), ...ending],
    reason: /^its logits come through logits, Relu$/,
  },
  'probabilities that no matrix follows': {
    nodes: [...plain.slice(0, 2), node('out', 'Relu', ['p'])],
    reason: /^its probabilities go to out, Relu$/,
  },
  'probabilities behind the matrix': {
    nodes: [...plain.slice(0, 2), node('out', 'BatchMatMulV2', ['v', 'p'], flag('adj_y'))],
    reason: /^its probabilities are not the first operand of out$/,
  },
  'another equation': {
    nodes: [einsum('logits', 'abcd,aecd->abe', ['q', 'k']), ...ending],
    reason: /^logits has the equation abcd,aecd->abe, not one of Keras/,
  },
  'axes in different orders': {
    nodes: [einsum('logits', 'aecd,abcd->acbe', ['k', 'q']), ...ending],
    reason: /different orders/,
  },
  'an activation in the product': {
    nodes: [
      node('logits', '_FusedMatMul', ['q', 'k', 'b'], {
        ...flag('transpose_b'),
        fused_ops: {list: {s: [btoa('BiasAdd'), btoa('Relu')]}},
      }),
      ...ending,
    ],
    inputs: {...INPUTS, b: [7]},
    reason: /^logits does biasadd, relu after its product$/,
  },
  'a node that waits for another': {
    nodes: [plain[0], node('p', 'Softmax', ['logits', '^q']), plain[2]],
    reason: /^p waits for other nodes$/,
  },
};

function specOf(name: string, graph: Graph & {left?: string[]}): void {
  it(`puts one node in the place of attention: ${name}`, async () => {
    const artifacts = await artifactsOf(graph);
    const copy = structuredClone(artifacts);
    const result = await useFlashAttention(artifacts);
    expect(artifacts).toEqual(copy);
    expect([result.rewritten, result.leftAlone]).toEqual([1, []]);
    const others = nodesOf(result.artifacts).filter((each) => !['q', 'k', 'v'].includes(each.name));
    const kept = others.map((each) => (['Placeholder', 'Const'].includes(each.op) ? each.name : each.op));
    expect(kept.sort()).toEqual(['FlashAttention', ...(graph.left ?? [])].sort());
    await expectSameResult(graph, result.artifacts);
  });
}

describeOnBackends('useFlashAttention', () => {
  for (const [name, graph] of Object.entries(fused)) {
    if (ON_EVERY_BACKEND.has(name)) specOf(name, graph);
  }

  for (const lowest of [-1e9, -3.4028234663852886e38, Number.NEGATIVE_INFINITY]) {
    it(`takes masks of ${lowest}, which may hide all keys of a row`, async () => {
      const graph: Graph = {nodes: after('AddV2', 'b'), inputs: {...INPUTS, b: [5, 7]}};
      const {artifacts} = await useFlashAttention(await artifactsOf(graph));
      const hidden = Array.from({length: 35}, (_, i) => (i % 3 === 0 ? lowest : 0));
      await expectSameResult(graph, artifacts, {b: tf.tensor2d(hidden, [5, 7])});
      const allHidden = tf.tensor2d(Array(35).fill(lowest), [5, 7]);
      expect((await run(artifacts, graph.inputs ?? {}, {b: allHidden})).values.every(Number.isFinite)).toBeTrue();
    });
  }
});

describe('useFlashAttention', () => {
  restoreBackendAfterwards();
  beforeAll(() => tf.setBackend('cpu'));

  for (const [name, graph] of Object.entries(fused)) {
    if (!ON_EVERY_BACKEND.has(name)) specOf(name, graph);
  }

  for (const [name, graph] of Object.entries(unfitting)) {
    it(`computes as before where shapes do not fit: ${name}`, async () => {
      const result = await useFlashAttention(await artifactsOf(graph));
      expect(result.rewritten).toBe(1);
      await expectSameResult(graph, result.artifacts);
    });
  }

  for (const [name, {reason, ...graph}] of Object.entries(leftAlone)) {
    it(`says why it leaves a softmax alone: ${name}`, async () => {
      const artifacts = await artifactsOf(graph);
      const result = await useFlashAttention(artifacts);
      expect(result.rewritten).toBe(0);
      expect(result.leftAlone.map(({softmax}) => softmax)).toEqual(['p']);
      expect(result.leftAlone[0].reason).toMatch(reason);
      expect(result.artifacts).toEqual(artifacts);
    });
  }

  it('leaves nodes that it is told of', async () => {
    const artifacts = await artifactsOf({nodes: plain});
    expect((await useFlashAttention(artifacts, {outputs: ['p']})).leftAlone.length).toBe(1);
    await expectAsync(useFlashAttention(artifacts, {outputs: ['x']})).toBeRejectedWithError(
      "useFlashAttention: outputs names 'x', no node of the graph.",
    );
  });

  it('rewrites attention of attention, among other softmaxes', async () => {
    const graph: Graph = {
      nodes: [
        ...plain.slice(0, 2),
        node('first', 'BatchMatMulV2', ['p', 'v']),
        node('scores2', 'BatchMatMulV2', ['first', 'first'], flag('adj_y')),
        node('p2', 'Softmax', ['scores2']),
        node('second', 'BatchMatMulV2', ['p2', 'first']),
        node('out', 'Softmax', ['second']),
      ],
    };
    const result = await useFlashAttention(await artifactsOf(graph));
    expect(result.rewritten).toBe(2);
    expect(result.leftAlone).toEqual([{softmax: 'out', reason: 'out is an output of the model'}]);
    await expectSameResult(graph, result.artifacts);
  });

  it('reads constants behind strings and quantized weights, in several buffers, through a handler', async () => {
    const strings = tf.tensor(['some', 'words, 和字'], [2], 'string');
    const [words, scale] = await Promise.all([
      tf.io.encodeWeights({words: strings}),
      tf.io.encodeWeights({half: tf.scalar(0.5)}),
    ]);
    const graph: Graph = {
      nodes: [node('scores', 'BatchMatMulV2', ['q', 'k'], flag('adj_y')), node('logits', 'Mul', ['scores', 'half'])],
    };
    const artifacts = await artifactsOf({nodes: [...graph.nodes, ...ending]});
    const handler = tf.io.fromMemory({
      ...artifacts,
      modelTopology: {node: [...nodesOf(artifacts), node('half', 'Const'), node('words', 'Const')], versions: {}},
      weightSpecs: [
        ...words.specs,
        {name: 'table', shape: [3], dtype: 'float32', quantization: {dtype: 'uint16', min: 0, scale: 1}},
        ...scale.specs,
      ],
      weightData: [words.data, new ArrayBuffer(6), scale.data],
    });
    const result = await useFlashAttention(handler);
    expect(nodesOf(result.artifacts).find(({op}) => op === 'FlashAttention')?.attr.scale).toEqual({f: 0.5});
  });

  it('says what is wrong with its arguments', async () => {
    await expectAsync(useFlashAttention({modelTopology: {}})).toBeRejectedWithError(
      'useFlashAttention: model must be a graph model, whose modelTopology has a list `node`.',
    );
    await expectAsync(useFlashAttention({modelTopology: {node: []}})).toBeRejectedWithError(
      'useFlashAttention: model has no weightData; load it without streaming its weights.',
    );
    await expectAsync(useFlashAttention({save: async () => ({}) as tf.io.SaveResult})).toBeRejectedWithError(
      'useFlashAttention: model is an IOHandler that cannot load.',
    );
  });
});
