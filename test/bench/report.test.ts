/** The tables that the benchmark writes of its results. */
import {peersOf} from '../../bench/cases.js';
import {markdownReport} from '../../bench/report.js';
import {failed, madeUpRun, problem, ran} from './made_up_run.js';

/** The cells of the lines that begin with the backend. */
function rowsOf(markdown: string): string[][] {
  const lines = markdown.split('\n').filter((line) => line.startsWith('| webgpu |'));
  return lines.map((line) => line.slice(2, -2).split(' | '));
}

describe('The report of the benchmark', () => {
  const outcomes = {flash: ran(10), unfused: ran(40), jax: ran(25, 3 * 2 ** 20)};
  const wrong = failed('wrong answer: output is off by 0.4 of its root mean square');

  it('has a column for each peer, and sets the fastest of all others against ours', () => {
    const markdown = markdownReport(madeUpRun({problem, outcomes: {...outcomes, onnxruntime: ran(20)}}));
    const [times, bytes] = rowsOf(markdown);
    const shape = ['webgpu', 'forward', 'full', '1', '4', '256', '64'];
    const rates = ['10.0 ms, 6.71 GFLOP/s', '40.0 ms, 1.68 GFLOP/s', '20.0 ms, 3.36 GFLOP/s', '25.0 ms, 2.68 GFLOP/s'];
    expect(times).toEqual([...shape, ...rates, '2.00×']);
    expect(bytes).toEqual([...shape, '1.0', '1.0', '1.0×', '1.0', '3.0']);
    expect(markdown).toContain('- Versions: @tensorflow/tfjs-core 1.2.3, onnxruntime-web 4.5.6');
  });

  it('lists a peer that is wrong or out of memory as such, with the reason', () => {
    const run = madeUpRun({
      problem,
      outcomes: {flash: ran(10), unfused: ran(40), onnxruntime: wrong, jax: failed('out of memory')},
    });
    const markdown = markdownReport(run);
    const [times, bytes] = rowsOf(markdown);
    expect(times.slice(8)).toEqual(['40.0 ms, 1.68 GFLOP/s', 'wrong answer', 'out of memory', '4.00×']);
    expect(bytes.slice(10)).toEqual(['wrong answer', 'out of memory']);
    expect(markdown).toContain(
      '- onnxruntime webgpu forward full B1 H4 S256 D64: wrong answer: output is off by 0.4 of its root mean square',
    );
    expect(markdown).toContain('- jax webgpu forward full B1 H4 S256 D64: out of memory');
  });

  it('leaves the cell of a peer empty that cannot do the problem', () => {
    const backward = {...problem, pass: 'forward+backward'} as const;
    const run = madeUpRun({problem, outcomes: {...outcomes, onnxruntime: wrong}}, {problem: backward, outcomes});
    expect(rowsOf(markdownReport(run))[1][9]).toBe('–');
    expect(peersOf(backward)).toEqual(['jax']);
    expect(peersOf(problem)).toEqual(['onnxruntime', 'jax']);
    expect(peersOf({...problem, backend: 'webgl'})).toEqual([]);
    expect(peersOf({...problem, layoutBlock: 64})).toEqual([]);
  });

  it('has no columns for peers where none was measured', () => {
    const markdown = markdownReport(madeUpRun({problem, outcomes: {flash: ran(10), unfused: ran(40)}}));
    expect(rowsOf(markdown)[0].slice(7)).toEqual(['10.0', '6.71 GFLOP/s', '40.0', '1.68 GFLOP/s', '4.00×']);
    expect(markdown).not.toContain('jax');
  });
});
