import { describe, expect, it } from 'vitest';
import { ago, bytes, count, counted, duration, loss, percent } from '../src/format';

describe('numbers', () => {
  it.each([
    ['97.22 %', percent(0.97222)],
    ['97.2 %', percent(0.97222, 1)],
    ['100.00 %', percent(1)],
    ['2.30', loss(2.3)],
    ['0.0123', loss(0.01234)],
    ['0.00', loss(0)],
    ['1.23e-7', loss(1.234e-7)],
    ['1,832', count(1832.4)],
    ['1 image', counted(1, 'image')],
    ['2,000 classes', counted(2000, 'class', 'classes')],
  ])('%s', (expected, written) => expect(written).toBe(expected));

  it('writes what is missing as a dash', () => {
    for (const write of [percent, loss, count, bytes, duration, ago]) {
      expect(write(null)).toBe('-');
      expect(write(undefined)).toBe('-');
    }
    expect(loss(Number.NaN)).toBe('-');
    expect(percent(Number.POSITIVE_INFINITY)).toBe('-');
  });
});

it.each([
  ['0 B', 0],
  ['999 B', 999],
  ['1.0 kB', 1000],
  ['31 MB', 31_000_000],
  ['1.1 GB', 1_100_000_000],
  ['1.0 MB', 999_950],
])('sizes: %s', (expected, size) => expect(bytes(size)).toBe(expected));

it.each([
  ['8 ms', 0.008],
  ['1.5 s', 1.5],
  ['24 s', 24.2],
  ['1 min', 59.9],
  ['3 min 10 s', 190],
  ['2 h 5 min', 7500],
  ['1 h', 3599.9],
  ['3 d', 259_200],
  ['0 ms', -3],
])('lengths of time: %s', (expected, seconds) => expect(duration(seconds)).toBe(expected));

it.each([
  ['just now', 2],
  ['just now', -30], // the clocks differ
  ['59 s ago', 59.9],
  ['4 min ago', 299],
  ['1 h ago', 3600],
  ['2 d ago', 200_000],
])('how long ago: %s', (expected, seconds) =>
  expect(ago(new Date(1_000_000_000_000 - seconds * 1000), 1_000_000_000_000)).toBe(expected),
);
