/** Finding attention in a graph: two products with a softmax between them, in the forms that converters write. */
import {type GraphReader, type NodeDef, stringOf} from './graph_def.js';

/** An operand of attention: the input that holds it, with its last two axes exchanged where it is `transposed`. */
export interface Operand {
  input: string;
  transposed: boolean;
}

/** A factor on the scores that is no positive constant. */
export interface Factor {
  op: 'Mul' | 'RealDiv';
  input: string;
}

/** softmax(scale·q·kᵀ·factors + biases)·v + outputBias. */
export interface AttentionPattern {
  q: Operand;
  k: Operand;
  v: Operand;
  /** Whether q, k, v and the result are [B, S, H, D]; otherwise [.., S, D]. */
  bshd: boolean;
  scale: number;
  factors: Factor[];
  biases: string[];
  /** The product with v, in whose place attention comes. */
  product: NodeDef;
  outputBias: string | undefined;
  /** Every node between q, k, v and the result. Nothing else uses what they make, but for the last. */
  replaced: NodeDef[];
}

/** Says why attention is not recognised. */
export class NotAttention extends Error {}

/**
 * The attention around a node 'Softmax', which goes over the last axis.
 *
 * @throws NotAttention with the reason, if this is none or one that must stay.
 */
export function attentionAround(graph: GraphReader, softmax: NodeDef): AttentionPattern {
  assertReplaceable(graph, softmax);
  const scores = readScores(graph, dataInputs(softmax)[0]);
  const {between, product} = readProbabilities(graph, softmax);
  const {operands, bshd, bias} = readProduct(product, 'values');
  if (bshd !== scores.bshd) throw new NotAttention(`its products have their axes in different orders`);
  const v = readOperand(graph, operands[1]);
  const replaced = [...scores.replaced, softmax, ...between, product];
  return {...scores, v: v.operand, product, outputBias: bias, replaced};
}

interface Scores {
  q: Operand;
  k: Operand;
  bshd: boolean;
  scale: number;
  factors: Factor[];
  biases: string[];
  replaced: NodeDef[];
}

/** These leave their input as it is; dropout has become one of them in a converted model. */
const PASS_THROUGH: ReadonlySet<string> = new Set(['Identity', 'StopGradient', 'PreventGradient', 'Snapshot']);

/** From the softmax upwards, through biases and factors, to the product of q and k. */
function readScores(graph: GraphReader, input: string): Scores {
  const node = graph.producer(input);
  if (!node) throw new NotAttention(`its logits are ${input}, which no node makes`);
  assertReplaceable(graph, node);
  const inputs = dataInputs(node);
  if (isProduct(node)) return scoresOfProduct(graph, node);
  if (PASS_THROUGH.has(node.op)) return through(node, readScores(graph, inputs[0]));
  if (ADDITIONS.has(node.op)) {
    return firstThatFits([0, 1], (i) => {
      const scores = readScores(graph, inputs[i]);
      return through(node, {...scores, biases: [...scores.biases, inputs[1 - i]]});
    });
  }
  if (node.op === 'Mul' || node.op === 'RealDiv') {
    const {op} = node;
    return firstThatFits(op === 'Mul' ? [0, 1] : [0], (i) =>
      through(node, scaled(graph, readScores(graph, inputs[i]), {op, input: inputs[1 - i]})),
    );
  }
  throw new NotAttention(`its logits come through ${node.name}, ${node.op}`);
}

const ADDITIONS: ReadonlySet<string> = new Set(['Add', 'AddV2', 'BiasAdd']);

function through(node: NodeDef, scores: Scores): Scores {
  return {...scores, replaced: [...scores.replaced, node]};
}

function firstThatFits<T>(indices: number[], read: (index: number) => T): T {
  const reasons: string[] = [];
  for (const index of indices) {
    try {
      return read(index);
    } catch (error) {
      if (!(error instanceof NotAttention)) throw error;
      reasons.push(error.message);
    }
  }
  throw new NotAttention(reasons.join('; '));
}

function scaled(graph: GraphReader, scores: Scores, factor: Factor): Scores {
  if (scores.biases.length > 0) throw new NotAttention(`its scores are scaled when a bias has been added`);
  const scale = positiveScale(graph, factor);
  if (scale !== undefined) return {...scores, scale: scores.scale * scale};
  if (constantNumber(graph, factor.input) === undefined && !isScalarAtRunTime(graph, factor.input)) {
    throw new NotAttention(`its scores are scaled by ${factor.input}, which is not known to be a single number`);
  }
  return {...scores, factors: [...scores.factors, factor]};
}

function scoresOfProduct(graph: GraphReader, node: NodeDef): Scores {
  const {operands, bshd, bias} = readProduct(node, 'scores');
  const [q, k] = operands.map((operand) => readOperand(graph, operand, true));
  return {
    q: q.operand,
    k: k.operand,
    bshd,
    scale: q.scale * k.scale,
    factors: [],
    biases: bias === undefined ? [] : [bias],
    replaced: [node],
  };
}

/** From the softmax downwards to the product of probabilities and v. */
function readProbabilities(graph: GraphReader, softmax: NodeDef): {between: NodeDef[]; product: NodeDef} {
  const between: NodeDef[] = [];
  let [made, [user]] = [softmax, graph.usersOf(softmax)];
  while (PASS_THROUGH.has(user.op)) {
    assertReplaceable(graph, user);
    between.push(user);
    [made, [user]] = [user, graph.usersOf(user)];
  }
  if (!isProduct(user)) throw new NotAttention(`its probabilities go to ${user.name}, ${user.op}`);
  if (graph.producer(dataInputs(user)[0]) !== made) {
    throw new NotAttention(`its probabilities are not the first operand of ${user.name}`);
  }
  assertNoControlInputs(user);
  return {between, product: user};
}

/** Only the node after it may use what it makes. */
function assertReplaceable(graph: GraphReader, node: NodeDef): void {
  if (graph.isOutput(node)) throw new NotAttention(`${node.name} is an output of the model`);
  const users = graph.usersOf(node);
  if (users.length === 0) throw new NotAttention(`nothing uses ${node.name}`);
  if (users.length > 1) {
    throw new NotAttention(`${node.name} is used more than once, by ${users.map(({name}) => name).join(', ')}`);
  }
  assertNoControlInputs(node);
}

function assertNoControlInputs({name, input = []}: NodeDef): void {
  if (input.some((each) => each.startsWith('^'))) throw new NotAttention(`${name} waits for other nodes`);
}

function dataInputs({input = []}: NodeDef): string[] {
  return input.filter((each) => !each.startsWith('^'));
}

/** The attributes that say which operands of a product are transposed. */
const TRANSPOSITIONS: Record<string, [string, string]> = {
  MatMul: ['transpose_a', 'transpose_b'],
  _FusedMatMul: ['transpose_a', 'transpose_b'],
  BatchMatMul: ['adj_x', 'adj_y'],
  BatchMatMulV2: ['adj_x', 'adj_y'],
  BatchMatMulV3: ['adj_x', 'adj_y'],
};

function isProduct({op}: NodeDef): boolean {
  return op in TRANSPOSITIONS || op === 'Einsum';
}

interface Product {
  /** q and k of scores; probabilities and v of values. */
  operands: [Operand, Operand];
  bshd: boolean;
  bias: string | undefined;
}

function readProduct(node: NodeDef, of: 'scores' | 'values'): Product {
  const {name, op, attr = {}} = node;
  if (op === 'Einsum') return readEinsum(node, of);
  const [a, b, ...others] = dataInputs(node);
  const [transposedA, transposedB] = TRANSPOSITIONS[op].map((each) => attr[each]?.b ?? false);
  const fused = (attr.fused_ops?.list?.s ?? []).map(stringOf);
  if (fused.length > 1 || (fused.length === 1 && fused[0] !== 'biasadd')) {
    throw new NotAttention(`${name} does ${fused.join(', ')} after its product`);
  }
  if (of === 'values' && transposedA) throw new NotAttention(`its probabilities are transposed in ${name}`);
  return {
    operands: [
      {input: a, transposed: transposedA},
      // What the product takes of k is kᵀ.
      {input: b, transposed: transposedB !== (of === 'scores')},
    ],
    bshd: false,
    bias: fused.length > 0 ? others[0] : undefined,
  };
}

/**
 * Equations of Keras's MultiHeadAttention, with their letters in the order of appearance: which operand comes first. Its
 * own spellings are 'aecd,abcd->acbe' of k and q, and 'acbe,aecd->abcd' of probabilities and v.
 */
const EQUATIONS: Record<'scores' | 'values', Record<string, 0 | 1>> = {
  scores: {'abcd,aecd->aceb': 1, 'abcd,aecd->acbe': 0},
  values: {'abcd,adbe->acbe': 0},
};

function readEinsum(node: NodeDef, of: 'scores' | 'values'): Product {
  const equation = stringOf(node.attr?.equation?.s).replaceAll(' ', '');
  const letters = [...new Set(equation.replace(/[^a-z]/g, ''))];
  const canonical = equation.replace(/[a-z]/g, (letter) => String.fromCharCode(97 + letters.indexOf(letter)));
  const first = EQUATIONS[of][canonical];
  const inputs = dataInputs(node);
  if (first === undefined || inputs.length !== 2) {
    throw new NotAttention(`${node.name} has the equation ${equation}, not one of Keras's MultiHeadAttention`);
  }
  const [one, other] = [inputs[first], inputs[1 - first]].map((input) => ({input, transposed: false}));
  return {operands: [one, other], bshd: true, bias: undefined};
}

/** What lies before transpositions and, if these are asked for, factors. */
function readOperand(
  graph: GraphReader,
  {input, transposed}: Operand,
  withScale = false,
): {operand: Operand; scale: number} {
  const node = graph.producer(input);
  if (!node) throw new NotAttention(`no node makes ${input}`);
  const inputs = dataInputs(node);
  if (PASS_THROUGH.has(node.op)) return readOperand(graph, {input: inputs[0], transposed}, withScale);
  if (node.op === 'Transpose' && exchangesLastAxes(graph.constant(inputs[1])?.values)) {
    return readOperand(graph, {input: inputs[0], transposed: !transposed}, withScale);
  }
  if (withScale && (node.op === 'Mul' || node.op === 'RealDiv')) {
    for (const i of node.op === 'Mul' ? [0, 1] : [0]) {
      const scale = positiveScale(graph, {op: node.op, input: inputs[1 - i]});
      if (scale === undefined) continue;
      const inner = readOperand(graph, {input: inputs[i], transposed}, withScale);
      return {...inner, scale: scale * inner.scale};
    }
  }
  return {operand: {input, transposed}, scale: 1};
}

function exchangesLastAxes(permutation: number[] | undefined): boolean {
  if (!permutation || permutation.length < 2) return false;
  const last = permutation.length - 1;
  return permutation.every((from, to) => from === (to < last - 1 ? to : 2 * last - 1 - to));
}

/** What a factor is, if it is constant and attention's scale can be it. */
function positiveScale(graph: GraphReader, {op, input}: Factor): number | undefined {
  const value = constantNumber(graph, input);
  const scale = value === undefined || op === 'Mul' ? value : 1 / value;
  return scale !== undefined && scale > 0 && Number.isFinite(scale) ? scale : undefined;
}

const FOLDED: Record<string, (x: number, y: number) => number> = {
  Identity: (x) => x,
  // To which type is left open.
  Cast: (x) => (Number.isInteger(x) ? x : Number.NaN),
  Sqrt: Math.sqrt,
  Rsqrt: (x) => 1 / Math.sqrt(x),
  Mul: (x, y) => x * y,
  RealDiv: (x, y) => x / y,
  Pow: (x, y) => x ** y,
};

/** The number that an input is, if that follows from constants. Of more than two axes it might give scores another shape. */
function constantNumber(graph: GraphReader, input: string): number | undefined {
  const constant = graph.constant(input);
  if (constant) return constant.values.length === 1 && constant.shape.length <= 2 ? constant.values[0] : undefined;
  const node = graph.producer(input);
  if (!node || !(node.op in FOLDED)) return undefined;
  const values = dataInputs(node).map((each) => constantNumber(graph, each));
  if (values.length === 0 || values.some((value) => value === undefined)) return undefined;
  return FOLDED[node.op](...(values as [number, number]));
}

/** Whether an input is made of one element of a shape, such as the square root of the head dimension. */
function isScalarAtRunTime(graph: GraphReader, input: string): boolean {
  const node = graph.producer(input);
  if (!node) return false;
  if (node.op in FOLDED) return dataInputs(node).every((each) => isScalarAtRunTime(graph, each));
  if (node.op !== 'StridedSlice') return constantNumber(graph, input) !== undefined;
  const shape = graph.producer(dataInputs(node)[0]);
  return shape?.op === 'Shape' && Number(node.attr?.shrink_axis_mask?.i ?? 0) === 1;
}
