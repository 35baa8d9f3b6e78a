import { describe, expect, it } from 'vitest';
import { numImages, sayCounts, sayShape, type Dataset } from '../../src/views/datasets/facts';
import { sayProgress, shareOf } from '../../src/views/datasets/progress';

function dataset(fields: Partial<Dataset>): Dataset {
  const empty = {
    state: 'ready',
    progress: null,
    waiting_for: null,
    num_classes: null,
    image_px: null,
    channels: null,
    num_train: null,
    num_val: null,
    num_test: null,
  };
  return { ...empty, ...fields } as Dataset;
}

describe('a dataset', () => {
  it('that is ready says what it is', () => {
    const ready = dataset({
      num_classes: 10,
      image_px: 28,
      channels: 1,
      num_train: 54_000,
      num_val: 6000,
      num_test: 10_000,
    });
    expect(sayShape(ready)).toBe('10 classes, 28 px grey');
    expect(sayCounts(ready)).toBe('54,000 / 6,000 / 10,000');
    expect(numImages(ready)).toBe(70_000);
  });

  it('of which nothing is known says nothing', () => {
    expect([sayShape(dataset({})), sayCounts(dataset({})), numImages(dataset({}))]).toEqual(['', '', null]);
  });
});

describe('a validation', () => {
  it.each([
    [{ phase: 'checking', done: 1204, total: 1980 }, 'checking the pictures: 1,204 of 1,980', 1204 / 1980],
    [
      { phase: 'reading', done: 5_000_000, total: 31_000_000 },
      'unpacking the archive: 5.0 MB of 31 MB',
      5 / 31,
    ],
    [{ phase: 'publishing', done: 0, total: 0 }, 'putting the pack into the store', null],
    [{ phase: 'something_new', done: 1, total: 2 }, 'something_new: 1 of 2', 0.5],
  ])('at %o says %s', (progress, words, share) => {
    const validating = dataset({ state: 'validating', progress });
    expect(sayProgress(validating)).toBe(words);
    expect(shareOf(validating)).toBe(share);
  });

  it('that has not begun says what it waits for', () => {
    expect(sayProgress(dataset({ state: 'validating', waiting_for: 'a_free_slot' }))).toBe(
      'waits for a free slot',
    );
    expect(sayProgress(dataset({ state: 'validating' }))).toBe('about to begin');
  });
});
