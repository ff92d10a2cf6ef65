/** The whole op over the grid: output, lse and every gradient on every backend, against float64. */
import {type AttentionCase, attentionCases, describeCase} from '../attention_cases.js';
import {expectRight} from '../attention_results.js';
import {describeOnBackends} from '../backends.js';

describeOnBackends('flashAttention agrees with float64, forward and backward', () => {
  for (const attentionCase of attentionCases) {
    it(describeCase(attentionCase), () => expectRight(attentionCase));
  }
});

describe('The cases of flashAttention', () => {
  // What a WebGPU shader is compiled for, beside depths.
  const features: ((attentionCase: AttentionCase) => boolean)[] = [
    ({order}) => order === 'BSHD',
    ({bias}) => bias !== undefined,
    ({mask}) => mask !== undefined,
    ({alibi, queryLengths, keyLengths}) => Boolean(alibi ?? queryLengths ?? keyLengths),
    ({softcap = 0}) => softcap > 0,
    ({dropout}) => dropout !== undefined,
    ({layout}) => layout !== undefined,
  ];

  it('have any three features in all combinations', () => {
    const triples = features.flatMap((a, i) =>
      features.slice(i + 1).flatMap((b, j) => features.slice(i + j + 2).map((c) => [a, b, c])),
    );
    expect(triples.length).toBe(35);
    for (const triple of triples) {
      const seen = new Set(attentionCases.map((each) => triple.map((has) => Number(has(each))).join('')));
      expect(seen.size).withContext(triple.join(', ')).toBe(8);
    }
  });

  it('have the gradient of a bias along any axes, and a mask along those that masks have', () => {
    const axesOf = (name: 'bias' | 'mask') => new Set(attentionCases.map((each) => each[name]));
    for (const axes of ['BHQK', 'HQK', 'QK', 'K', 'BK', 'BH', 'HQ', '']) expect(axesOf('bias')).toContain(axes);
    for (const axes of ['BHQK', 'HQK', 'QK', 'K', 'BK', 'H']) expect(axesOf('mask')).toContain(axes);
  });
});
