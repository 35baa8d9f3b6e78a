import { expect, it } from 'vitest';
import { fingerprintOf } from '../../src/api/fingerprint';

function file(path: string, { size = 3, lastModified = 5 } = {}) {
  return { path, file: new File(['x'.repeat(size)], path, { lastModified }) };
}

it('is the same for the same files in any order', () => {
  expect(fingerprintOf([file('a/1'), file('b/2')])).toBe(fingerprintOf([file('b/2'), file('a/1')]));
});

it.each([
  ['a path', [file('a/2')]],
  ['a size', [file('a/1', { size: 4 })]],
  ['a time', [file('a/1', { lastModified: 6 })]],
  ['a file more', [file('a/1'), file('a/2')]],
])('differs by %s', (_, files) => {
  expect(fingerprintOf(files)).not.toBe(fingerprintOf([file('a/1')]));
});
