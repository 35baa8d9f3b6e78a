import { expect, it } from 'vitest';
import { backOffS } from '../../src/api/back-off';

it.each([
  [1, 1],
  [2, 2],
  [3, 4],
  [6, 30],
  [50, 30],
])('failure %i waits %i seconds, give or take a quarter', (failures, seconds) => {
  expect(backOffS(failures, null, () => 0.5)).toBe(seconds);
  expect(backOffS(failures, null, () => 0)).toBe(seconds * 0.75);
});

it('what the yard asks for wins', () => {
  expect(backOffS(9, 3)).toBe(3);
  expect(backOffS(1, 0)).toBeGreaterThan(0);
});
