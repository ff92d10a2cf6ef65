/** The chart that is drawn of the benchmark's results. */
import {attentionChart} from '../../bench/attention_chart.js';
import {failed, madeUpRun, problem, ran} from './made_up_run.js';

function parsed(svg: string): Document {
  const document = new DOMParser().parseFromString(svg, 'image/svg+xml');
  expect(document.querySelector('parsererror')?.textContent).toBeUndefined();
  return document;
}

const wordsOf = (document: Document) =>
  [...document.querySelectorAll('text')].map(({textContent}) => textContent ?? '');

/** Of the bars, not of the squares of the legend. */
function widthsOf(document: Document, contender: string): number[] {
  const [, ...bars] = [...document.querySelectorAll(`rect.${contender}`)];
  return bars.map((bar) => Number(bar.getAttribute('width')));
}

describe('The chart of the benchmark', () => {
  const outcomes = {flash: ran(10), unfused: ran(40), onnxruntime: failed('wrong answer: all of it'), jax: ran(20)};
  const causal = {...problem, causal: true};

  it('has bars as long as the rates', () => {
    const document = parsed(
      attentionChart(madeUpRun({problem, outcomes}, {problem: causal, outcomes: {flash: ran(5)}})),
    );
    const [[flash, ofCausal], [unfused], [jax]] = ['flash', 'unfused', 'jax'].map((name) => widthsOf(document, name));
    expect(flash / unfused).toBeCloseTo(4, 1);
    expect(flash / jax).toBeCloseTo(2, 1);
    // Half of the operations in half of the time.
    expect(ofCausal).toBeCloseTo(flash, 1);
    expect(wordsOf(document)).toContain('6.71');
    expect(wordsOf(document)[0]).toContain('GFLOP/s');
  });

  it('has a word in place of the bar of a peer without a figure', () => {
    const document = parsed(attentionChart(madeUpRun({problem, outcomes})));
    expect(wordsOf(document)).toContain('onnxruntime-web: wrong answer');
    expect(widthsOf(document, 'onnxruntime')).toEqual([]);
  });

  it('says on what and with which versions it was measured', () => {
    const words = wordsOf(parsed(attentionChart(madeUpRun({problem, outcomes})))).join('\n');
    for (const fact of ['R&D <GPU>', 'a driver', 'Chromium 1', '2026-01-02', 'onnxruntime-web 4.5.6'])
      expect(words).toContain(fact);
  });

  it('is drawn of results from before versions were kept', () => {
    const {versions, ...older} = madeUpRun({problem, outcomes});
    expect(versions?.length).toBe(2);
    expect(wordsOf(parsed(attentionChart(older)))).toContain('Chromium 1, 2026-01-02');
  });

  it('shows only what is asked for, and refuses results without it', () => {
    const run = madeUpRun({problem, outcomes}, {problem: causal, outcomes});
    expect(widthsOf(parsed(attentionChart(run, 'causal')), 'flash').length).toBe(1);
    expect(() => attentionChart(run, 'webgl')).toThrowError(/no attention with a time .*'webgl'/);
    const memoryOnly = madeUpRun({problem: {...problem, timed: false}, outcomes});
    expect(() => attentionChart(memoryOnly)).toThrowError(/no attention with a time/);
  });
});
