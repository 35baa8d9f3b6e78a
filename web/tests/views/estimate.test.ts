import { expect, it } from 'vitest';
import { sayRange } from '../../src/views/new/estimate';

it.each([
  [180, 280, '3 to 5 min'],
  [350, 370, 'about 6 min'],
  [20, 45, '20 to 45 s'],
  [80, 300, '80 s to 5 min'],
  [8400, 200_000, '2 h to 2 d'],
  [0.2, 0.4, 'under 1 s'],
])('%d to %d seconds is %s', (low, high, words) => {
  expect(sayRange(low, high)).toBe(words);
});
