import { describe, expect, it } from 'vitest';
import { align, nearest } from '../src/charts/align';
import { shortCount, shortNumber, shortTime, xIncrements, yRange, yTick } from '../src/charts/axes';
import { lineLook, Looks } from '../src/charts/palette';
import { smooth } from '../src/charts/smooth';
import { spark } from '../src/charts/spark';
import { caption, sayTrend } from '../src/charts/trend';

describe('smooth', () => {
  const xs = [0, 1, 2, 3, 4];

  it('leaves the values as they are with amount 0', () => {
    expect(smooth(xs, [1, 5, null, 2, 7], 0)).toEqual([1, 5, null, 2, 7]);
  });

  it('keeps a constant constant, at any amount', () => {
    for (const amount of [0.1, 0.6, 0.99]) {
      for (const value of smooth(xs, [0.3, 0.3, 0.3, 0.3, 0.3], amount)) expect(value).toBeCloseTo(0.3, 12);
    }
  });

  it('is the documented average, corrected for its start', () => {
    // 1000 units over a range of 1000: neighbours are one unit apart, and the past keeps sqrt(0.25) = 0.5
    const [a, b, c] = smooth([0, 1, 2], [1, 0, 0], 0.25, 1000);
    expect(a).toBe(1);
    expect(b).toBeCloseTo(0.5 / 1.5, 12);
    expect(c).toBeCloseTo(0.25 / 1.75, 12);
  });

  it('breaks at a null and goes on behind it', () => {
    const [, gap, after] = smooth([0, 1, 2], [1, null, 0], 0.25, 1000);
    expect(gap).toBeNull();
    expect(after).toBeCloseTo(0.25 / 1.25, 12); // two units later
  });

  it('weighs the past by its distance in x, not by its number of points', () => {
    const near = smooth([0, 10], [0, 1], 0.9, 1000)[1]!;
    const far = smooth([0, 900], [0, 1], 0.9, 1000)[1]!;
    expect(near).toBeLessThan(0.7);
    expect(far).toBeGreaterThan(0.99);
  });

  it('survives one point and points at one place', () => {
    expect(smooth([3], [2], 0.6)).toEqual([2]);
    expect(smooth([3, 3], [2, 4], 0.6)).toEqual([2, 4]);
  });
});

describe('align', () => {
  it('takes the union of positions, and tells a broken line from one that goes on', () => {
    const { xs, columns } = align([
      { xs: [1, 2, 3], values: [1, null, 3] },
      { xs: [2, 4], values: [5, 6] },
    ]);
    expect(xs).toEqual([1, 2, 3, 4]);
    expect(columns).toEqual([
      [1, null, 3, undefined],
      [undefined, 5, undefined, 6],
    ]);
  });

  it('aligns 20 lines of 5,000 points each in well under a second', () => {
    const lines = Array.from({ length: 20 }, (_, n) => ({
      xs: Array.from({ length: 5000 }, (_, i) => i * 7 + n),
      values: Array.from({ length: 5000 }, (_, i) => i),
    }));
    const began = performance.now();
    expect(align(lines).columns).toHaveLength(20);
    expect(performance.now() - began).toBeLessThan(800);
  });

  it('finds the nearest position', () => {
    expect(nearest([], 3)).toBe(-1);
    expect([-5, 0, 1.4, 1.6, 99].map((x) => nearest([0, 1, 2], x))).toEqual([0, 0, 1, 2, 2]);
  });
});

describe('axes', () => {
  it('writes counts, times, losses and accuracies briefly', () => {
    expect([0, 950, 2000, 12500, 1_200_000].map(shortCount)).toEqual(['0', '950', '2k', '12.5k', '1.2M']);
    expect([0, 45, 180, 200, 3600, 4800].map(shortTime)).toEqual([
      '0',
      '45 s',
      '3 min',
      '3:20',
      '1 h',
      '1 h 20',
    ]);
    expect([0, 2.5, 0.02, 0.00001, 12345].map(shortNumber)).toEqual(['0', '2.5', '0.02', '1e-5', '1.23e4']);
    expect([yTick('accuracy', 0.9, 0.1), yTick('accuracy', 0.995, 0.005)]).toEqual(['90 %', '99.5 %']);
  });

  it('keeps an accuracy within its bounds and does not blow up a level line', () => {
    expect(yRange('accuracy', 0.5, 1, false)[1]).toBeLessThanOrEqual(1.01);
    const [low, high] = yRange('loss', 0.5, 0.5, false);
    expect(high - low).toBeCloseTo(0.01);
  });

  it('has ascending distances between ticks', () => {
    for (const mode of ['step', 'epoch', 'time'] as const) {
      const increments = xIncrements(mode);
      expect(increments).toEqual([...increments].sort((a, b) => a - b));
    }
  });

  it('has bounds over 0 on a log axis', () => {
    expect(yRange('loss', 0.001, 10, true)[0]).toBeGreaterThan(0);
  });
});

describe('palette', () => {
  it('gives no two of 20 lines the same look, and a dash from the fifth on', () => {
    const looks = Array.from({ length: 20 }, (_, n) => lineLook(n));
    expect(new Set(looks.map((look) => JSON.stringify(look))).size).toBe(20);
    expect(looks.slice(0, 4).every((look) => look.dash.length === 0)).toBe(true);
    expect(looks.slice(4).every((look) => look.dash.length > 0)).toBe(true);
  });

  it('lets a job keep its colour when others go and come', () => {
    const looks = new Looks();
    const before = looks.assign(['a', 'b', 'c']);
    const after = looks.assign(['c', 'd', 'b']);
    expect(after.get('b')).toEqual(before.get('b'));
    expect(after.get('c')).toEqual(before.get('c'));
    expect(after.get('d')).toEqual(before.get('a'));
  });
});

describe('spark', () => {
  it('draws from corner to corner, and breaks at a null', () => {
    expect(spark([0, 1], 24, 12)).toEqual({ path: 'M2 10L22 2', end: [22, 2] });
    expect(spark([0, null, 1, 0.5], 14, 12).path).toBe('M2 10M8.7 2L12 6');
  });

  it('draws a constant and a single value as a level line, and nothing as nothing', () => {
    expect(spark([3, 3], 24, 12).path).toBe('M2 6L22 6');
    expect(spark([null, 3], 24, 12).path).toBe('M2 6H22');
    expect(spark([null], 24, 12)).toEqual({ path: '', end: null });
  });
});

describe('sayTrend', () => {
  const say = (values: (number | null)[]): string =>
    sayTrend({ xs: values.map((_, i) => i), values }, String, (x) => `step ${x}`);

  it('says falls, rises, turns, levels, and what there is with few points', () => {
    expect(say([1.8, 1, 0.5, 0.24])).toBe('falls from 1.8 to 0.24');
    expect(say([0.2, 0.5, 0.48, 0.9])).toBe('rises from 0.2 to 0.9');
    expect(say([2, 1, 0.2, 0.8, 1.5])).toBe('falls from 2 to 0.2 at step 2, then rises to 1.5');
    expect(say([0.1, 0.9, 0.2])).toBe('rises from 0.1 to 0.9 at step 1, then falls to 0.2');
    expect(say([0.5, 0.501, 0.5])).toBe('stays at 0.5');
    expect(say([null, 3])).toBe('is 3 at step 1');
    expect(say([])).toBe('has no points yet');
  });

  it('makes one sentence of several lines', () => {
    expect(caption(['train falls', 'validation rises'], 'best at epoch 7')).toBe(
      'train falls; validation rises; best at epoch 7.',
    );
    expect(caption([])).toBe('');
  });

  it('only counts most of very many lines', () => {
    expect(caption(Array.from({ length: 20 }, (_, n) => `job ${n} rises`))).toMatch(
      /job 5 rises; 14 more in the table below\.$/,
    );
  });
});
