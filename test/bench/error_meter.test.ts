import {ErrorMeter} from '../../bench/page/error_meter.js';
import {worstError} from '../attention_results.js';

describe('What judges results', () => {
  const right = [1, -2, 3, 4];

  it('takes the largest error', () => {
    expect(worstError([1, -2.5, 3.25, 4], right)).toBe(0.5);
    const meter = new ErrorMeter();
    meter.compare([1, -2, 3, 4.001], right);
    expect(meter.within('y')).toBeCloseTo(0.001 / Math.sqrt(30 / 4), 9);
    meter.compare([1, -2, 3.1, 4], right);
    expect(() => meter.within('y')).toThrowError('wrong answer: y is off by 0.037 of its root mean square');
  });

  for (const [i, value] of [Number.NaN, Number.POSITIVE_INFINITY, Number.NaN, Number.NEGATIVE_INFINITY].entries()) {
    it(`sees ${value} in place ${i} of ${right.length}`, () => {
      const wrong = right.map((x, place) => (place === i ? value : x));
      expect(worstError(wrong, right)).toBeNaN();
      const meter = new ErrorMeter();
      meter.compare(wrong, right);
      meter.compare(right, right);
      expect(() => meter.within('y')).toThrowError(/^wrong answer: y is off by (NaN|Infinity)/);
    });
  }
});
