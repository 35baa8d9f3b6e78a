import { describe, expect, it } from 'vitest';
import type { JobRow } from '../../src/state/jobs.svelte';
import {
  metadataKeys,
  passes,
  sayPace,
  sayProgress,
  sinceOf,
  sorted,
  type Filter,
} from '../../src/views/jobs/list';
import { StandingOrder } from '../../src/views/jobs/order.svelte';
import { partOf, scrollTo } from '../../src/views/jobs/window';

function job(id: string, changes: Partial<JobRow> = {}): JobRow {
  const progress = {
    epoch: 8,
    epochs: 20,
    step: 400,
    steps: 1000,
    fraction: 0.4,
    images_per_s: 1832,
    eta_s: 190,
  };
  const at = '2026-11-30T04:00:00Z';
  return {
    id,
    name: null,
    state: 'running',
    dataset: 'ds_digits',
    recipe: 'quick',
    metadata: {},
    priority: 0,
    created_at: at,
    queued_at: at,
    started_at: '2026-11-30T04:00:10Z',
    finished_at: null,
    worker: null,
    progress,
    metrics: null,
    best: null,
    test: null,
    latest_checkpoint: null,
    error: null,
    ...changes,
  } as JobRow;
}

const ANY: Filter = { text: '', states: [], dataset: null };

describe('the filter', () => {
  const row = job('job_abc', { name: 'Night run', metadata: { team: 'vision' } });

  it('finds words in name, id, dataset, recipe, state and metadata, all of them', () => {
    for (const text of ['night', 'ABC', 'digits', 'quick run', 'running', 'team=vision']) {
      expect(passes(row, { ...ANY, text })).toBe(true);
    }
    expect(passes(row, { ...ANY, text: 'night day' })).toBe(false);
  });

  it('takes any of the states and the one dataset', () => {
    expect(passes(row, { ...ANY, states: ['failed', 'running'] })).toBe(true);
    expect(passes(row, { ...ANY, states: ['failed'] })).toBe(false);
    expect(passes(row, { ...ANY, dataset: 'ds_other' })).toBe(false);
  });
});

it('sorts, and puts the newer one first of those that are equal', () => {
  const rows = [
    job('job_1', { name: 'b', best: { val_top1: 0.9 } }),
    job('job_2', { name: 'a', state: 'failed' }),
    job('job_3', { name: 'b', best: { val_top1: 0.95 } }),
  ];
  const ids = (sort: Parameters<typeof sorted>[1]): string[] => sorted(rows, sort).map((row) => row.id);
  expect(ids('newest')).toEqual(['job_3', 'job_2', 'job_1']);
  expect(ids('name')).toEqual(['job_2', 'job_3', 'job_1']);
  expect(ids('best')).toEqual(['job_3', 'job_1', 'job_2']);
  expect(ids('state')).toEqual(['job_3', 'job_1', 'job_2']);
});

describe('the words of a row', () => {
  it('says how far it is in each state', () => {
    expect(sayProgress(job('job_1'))).toEqual({
      bar: 0.4,
      first: '40 %',
      second: 'epoch 8/20, 3 min 10 s left',
    });
    expect(sayProgress(job('job_1', { state: 'paused' }))).toMatchObject({ bar: 0.4, second: 'epoch 8/20' });
    expect(sayProgress(job('job_1', { state: 'succeeded', test: { top1: 0.9861 } })).first).toBe(
      'test 98.61 %',
    );
    const failed = job('job_1', { state: 'failed', error: { code: 'diverged', message: '' } });
    expect(sayProgress(failed)).toMatchObject({
      bar: null,
      first: 'diverged',
      second: 'step 400, epoch 8/20',
    });
    const fresh = { ...job('job_1').progress, fraction: 0 };
    const queued = job('job_1', {
      state: 'queued',
      progress: fresh,
      queue_position: 2,
      waiting_for: 'a_free_slot',
    });
    expect(sayProgress(queued)).toMatchObject({ bar: null, first: 'place 2, waits for a free slot' });
  });

  it('says how fast it is, or how long it took, and since when', () => {
    expect(sayPace(job('job_1'))).toBe('1,832 images/s');
    const ended = job('job_1', { state: 'succeeded', finished_at: '2026-11-30T04:00:34Z' });
    expect(sayPace(ended)).toBe('took 24 s');
    expect(sinceOf(ended)).toEqual({ word: '', at: '2026-11-30T04:00:34Z' });
    expect(sinceOf(job('job_1')).word).toBe('started ');
    expect(sinceOf(job('job_1', { state: 'queued', started_at: null })).word).toBe('');
  });
});

it('collects the keys of metadata', () => {
  expect(
    metadataKeys([job('job_1', { metadata: { b: '1' } }), job('job_2', { metadata: { a: '', b: '' } })]),
  ).toEqual(['a', 'b']);
});

describe('the part of the list that is drawn', () => {
  it('is what is seen and a few more, and the rest is height', () => {
    const part = partOf(1000, 50, 5000, 600);
    expect(part.first).toBe(94);
    expect(part.end - part.first).toBeLessThan(32);
    expect(part.before + (part.end - part.first) * 50 + part.behind).toBe(1000 * 50);
  });

  it('is all of a short list, and the end at the end', () => {
    expect(partOf(3, 50, 0, 600)).toEqual({ first: 0, end: 3, before: 0, behind: 0 });
    expect(partOf(1000, 50, 49_400, 600).end).toBe(1000);
    expect(partOf(0, 50, 0, 600)).toEqual({ first: 0, end: 0, before: 0, behind: 0 });
  });

  it('scrolls only as far as a row needs', () => {
    expect(scrollTo(3, 50, 0, 600, 36)).toBe(0);
    expect(scrollTo(0, 50, 400, 600, 36)).toBe(0);
    expect(scrollTo(20, 50, 0, 600, 36)).toBe(21 * 50 - 564);
  });
});

describe('the order of the list', () => {
  const [a, b, c] = [job('job_1'), job('job_2'), job('job_3')] as [JobRow, JobRow, JobRow];

  it('follows while its top is seen, and else lets new ones wait', () => {
    const order = new StandingOrder();
    order.take([b, a], '', false);
    order.take([c, b, a], '', true);
    expect([order.ids, order.waiting]).toEqual([['job_2', 'job_1'], 1]);
    order.take([c, b, a], '', false);
    expect([order.ids, order.waiting]).toEqual([['job_3', 'job_2', 'job_1'], 0]);
  });

  it('drops what is gone at once, and shows another filter at once', () => {
    const order = new StandingOrder();
    order.take([b, a], '', false);
    order.take([a], '', true);
    expect(order.ids).toEqual(['job_1']);
    order.take([c, a], 'other', true);
    expect(order.ids).toEqual(['job_3', 'job_1']);
  });
});
