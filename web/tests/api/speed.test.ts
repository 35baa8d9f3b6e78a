import { expect, it } from 'vitest';
import { Speed } from '../../src/api/speed';

it('is unknown at first, then the mean of the last seconds', () => {
  const speed = new Speed();
  speed.note(0, 0);
  expect(speed.bytesPerS).toBeNull();
  for (let second = 1; second <= 60; second++) speed.note(second * (second < 50 ? 1000 : 100), second * 1000);
  speed.reset();
  for (let second = 0; second <= 30; second++)
    speed.note(second < 20 ? 0 : (second - 20) * 500, second * 1000);
  expect(speed.bytesPerS).toBe(500);
});

it('begins anew where bytes were lost by a cut', () => {
  const speed = new Speed();
  speed.note(0, 0);
  speed.note(9000, 1000);
  speed.note(4000, 2000);
  expect(speed.bytesPerS).toBeNull();
  speed.note(5000, 3000);
  expect(speed.bytesPerS).toBe(1000);
});
