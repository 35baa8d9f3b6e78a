import { describe, expect, it } from 'vitest';
import type { Job } from '../../src/state/job.svelte';
import { namesOf } from '../../src/views/compare/lines';
import { rowsOf } from '../../src/views/compare/rows';

function job(changes: Partial<Job>): Job {
  return {
    id: 'job_1',
    name: 'base',
    config: { lr: 0.1, widths: [32, 64] },
    metadata: {},
    best: { val_top1: 0.9, val_loss: 0.5, epoch: 7 },
    test: null,
    metrics: null,
    dataset: 'ds_digits',
    recipe: 'quick',
    seed: 1,
    init_from: null,
    max_runtime_s: null,
    started_at: null,
    finished_at: null,
    ...changes,
  } as Job;
}

describe('the rows of a comparison', () => {
  const other = job({
    id: 'job_2',
    config: { lr: 0.02, widths: [32, 64] },
    best: { val_top1: 0.92, val_loss: 0.6, epoch: 7 },
  });
  const rows = rowsOf([job({}), other], 0);
  const row = (name: string) => rows.find((candidate) => candidate.name === name)!;

  it('say the difference to the baseline, and whether it is better', () => {
    expect(row('best validation').cells[1]).toEqual({
      text: '92.00 %',
      change: '+2.00 points',
      better: true,
      best: true,
    });
    expect(row('validation loss').cells[1]).toEqual({
      text: '0.600',
      change: '+0.100',
      better: false,
      best: false,
    });
    expect(row('best epoch').cells[1]!.change).toBe('');
  });

  it('call nothing better that is written the same, and nothing best among equals', () => {
    const near = job({ id: 'job_3', best: { val_top1: 0.900001, val_loss: 0.5, epoch: 7 } });
    const [first, , , validation] = rowsOf([job({}), near], 0);
    expect(first!.cells[1]).toMatchObject({ change: '', better: null });
    expect(validation!.cells.map((cell) => cell.best)).toEqual([false, false]);
  });

  it('tell which options differ', () => {
    expect(row('lr')).toMatchObject({
      differs: true,
      cells: [{ change: '' }, { text: '0.02', change: '≠' }],
    });
    expect(row('widths').differs).toBe(false);
    expect(row('test').cells.map((cell) => cell.text)).toEqual(['-', '-']);
  });

  it('keep the baseline where it is asked for', () => {
    const turned = rowsOf([job({}), other], 1);
    expect(turned[0]!.cells[0]!.change).toBe('−2.00 points');
  });
});

it('tells jobs of one name apart by their ids', () => {
  const names = namesOf([
    job({ id: 'job_aaaa' }),
    job({ id: 'job_bbbb' }),
    job({ id: 'job_cccc', name: 'other' }),
  ]);
  expect([...names.values()]).toEqual(['base …aaaa', 'base …bbbb', 'other']);
});
