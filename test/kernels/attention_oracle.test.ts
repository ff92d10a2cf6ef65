/** The float64 oracle against finite differences: what every other spec relies on is right by itself. */
import {type AttentionProblem, attentionBackward, attentionForward} from '../../kernels/cpu/attention_rows.js';
import type {BlockLayout} from '../../src/index.js';
import {type AttentionCase, describeCase} from '../attention_cases.js';
import {type HostInputs, makeInputs, oracleProblem} from '../attention_inputs.js';

const tiny: AttentionCase = {B: 2, H: 2, Hk: 1, Sq: 4, Sk: 5, D: 3, Dv: 2};
const cases: AttentionCase[] = [
  tiny,
  {...tiny, causal: true},
  {...tiny, Hk: 2, window: [1, 2]},
  {...tiny, softcap: 2, order: 'BSHD'},
  {...tiny, scale: 0.7, alibi: 'H'},
  {...tiny, alibi: 'BH'},
  {...tiny, bias: 'HQK'},
  {...tiny, bias: 'B'},
  {...tiny, mask: 'BHQK'},
  {...tiny, queryLengths: [4, 2], keyLengths: [0, 3]},
  {...tiny, dropout: {rate: 0.4, seed: 11}},
  {
    ...tiny,
    causal: true,
    window: [2, 2],
    softcap: 3,
    alibi: 'BH',
    bias: 'QK',
    mask: 'BK',
    queryLengths: [3, 4],
    keyLengths: [5, 4],
    dropout: {rate: 0.3, seed: 2},
    order: 'BSHD',
  },
];

/** What of a problem is differentiated, and where its gradient is. */
const differentiated = [
  {name: 'dq', values: (problem: AttentionProblem) => problem.q},
  {name: 'dk', values: (problem: AttentionProblem) => problem.k},
  {name: 'dv', values: (problem: AttentionProblem) => problem.v},
  {name: 'dBias', values: (problem: AttentionProblem) => problem.bias?.values},
  {name: 'dSlopes', values: (problem: AttentionProblem) => problem.alibiSlopes?.values},
] as const;

describe('The float64 oracle agrees with finite differences:', () => {
  for (const attentionCase of cases) {
    it(describeCase(attentionCase), () => {
      const inputs = makeInputs(attentionCase);
      const problem = inFloat64(oracleProblem(attentionCase, inputs));
      const gradients = attentionBackward(problem, inputs.outputWeights.values, inputs.lseWeights.values);
      for (const {name, values} of differentiated) {
        const input = values(problem) as Float64Array | undefined;
        if (input) expectGradient(name, gradients[name] as Float64Array, input, () => weightedSum(problem, inputs));
      }
    });
  }
});

describe('The float64 oracle with a layout', () => {
  for (const perHead of [false, true]) {
    it(`gives what the mask of its elements gives, ${perHead ? 'a pattern per head' : 'one pattern'}`, () => {
      const layoutCase = {blockSize: [2, 3] as [number, number], density: 0.5, perHead};
      const attentionCase: AttentionCase = {...tiny, Sq: 7, Sk: 10, layout: layoutCase};
      const inputs = makeInputs(attentionCase);
      const withLayout = oracleProblem(attentionCase, inputs);
      const layout = withLayout.attrs.layout as BlockLayout;
      const {heads, queries, keys} = withLayout.sizes;
      const values = Array.from({length: heads * queries * keys}, (_, i) => {
        const [head, query, key] = [Math.floor(i / queries / keys), Math.floor(i / keys) % queries, i % keys];
        return Number(layout.isLive(Math.floor(query / 2), Math.floor(key / 3), head));
      });
      expect(new Set(values).size).toBe(2);
      const withMask = {
        ...withLayout,
        attrs: {...withLayout.attrs, layout: null},
        mask: {values, strides: [0, queries * keys, keys, 1]} as const,
      };
      expect(attentionForward(withLayout)).toEqual(attentionForward(withMask));
      const weights = inputs.outputWeights.values;
      expect(attentionBackward(withLayout, weights)).toEqual(attentionBackward(withMask, weights));
    });
  }
});

/** Rows that see nothing have a constant as lse, which is left out. */
function weightedSum(problem: AttentionProblem, {outputWeights, lseWeights}: HostInputs): number {
  const {output, lse} = attentionForward(problem);
  const ofOutput = output.reduce((sum, value, i) => sum + value * outputWeights.values[i], 0);
  return lse.reduce((sum, value, i) => (value < -1e30 ? sum : sum + value * lseWeights.values[i]), ofOutput);
}

function expectGradient(name: string, gradient: Float64Array, input: Float64Array, f: () => number): void {
  const step = 1e-5;
  for (let i = 0; i < input.length; i++) {
    const value = input[i];
    input[i] = value + step;
    const above = f();
    input[i] = value - step;
    const below = f();
    input[i] = value;
    expect(gradient[i])
      .withContext(`${name}[${i}]`)
      .toBeCloseTo((above - below) / (2 * step), 7);
  }
}

/** The problem with arrays that a step of 1e-5 does not round away in. */
function inFloat64(problem: AttentionProblem): AttentionProblem {
  const {q, k, v, bias, alibiSlopes} = problem;
  return {
    ...problem,
    q: Float64Array.from(q),
    k: Float64Array.from(k),
    v: Float64Array.from(v),
    bias: bias && {...bias, values: Float64Array.from(bias.values)},
    alibiSlopes: alibiSlopes && {...alibiSlopes, values: Float64Array.from(alibiSlopes.values)},
  };
}
