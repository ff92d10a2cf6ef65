/** Results of a benchmark that never ran, for the specs of what is made from results. */
import type {AttentionProblem, Contender} from '../../bench/cases.js';
import type {Outcome} from '../../bench/measurement.js';
import type {Run} from '../../bench/report.js';

/** 4·B·H·S²·D = 2^26 operations. */
export const problem: AttentionProblem = {
  kind: 'attention',
  backend: 'webgpu',
  pass: 'forward',
  causal: false,
  batch: 1,
  heads: 4,
  sequence: 256,
  depth: 64,
  timed: true,
};

export function ran(milliseconds: number, peakBytes = 2 ** 20): Outcome {
  return {ok: true, measurement: {milliseconds, peakBytes, errors: {}}};
}

export function failed(reason: string): Outcome {
  return {ok: false, reason};
}

export function madeUpRun(...rows: {problem: AttentionProblem; outcomes: Partial<Record<Contender, Outcome>>}[]): Run {
  return {
    adapter: {vendor: 'R&D <GPU>'},
    webglRenderer: 'a renderer',
    drivers: ['a driver'],
    browser: 'Chromium 1',
    date: '2026-01-02T03:04:05.000Z',
    suite: 'software',
    stockDevice: false,
    versions: ['@tensorflow/tfjs-core 1.2.3', 'onnxruntime-web 4.5.6'],
    results: rows.flatMap(({problem, outcomes}) =>
      Object.entries(outcomes).map(([contender, outcome]) => {
        return {benchCase: {...problem, contender: contender as Contender, stockDevice: false}, outcome};
      }),
    ),
  };
}
