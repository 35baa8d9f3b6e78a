import { describe, expect, it } from 'vitest';
import type { JobEvent } from '../../src/state/events.svelte';
import { NO_METRICS, type Metrics } from '../../src/state/points';
import { optionToChange, overridesOf, startOf } from '../../src/views/job/actions/retry';
import { readPairs, writePairs } from '../../src/views/job/actions/pairs';
import { csvOf } from '../../src/views/job/csv';
import { curvesOf, happeningsOf, starOf } from '../../src/views/job/curves';
import { hasTimes, placeOf, stepsIn } from '../../src/views/job/places';
import { ordered, shares, strengths } from '../../src/views/job/evaluation/confusion';
import { sayEvent } from '../../src/views/job/happened';
import { stripOf } from '../../src/views/job/strip';

const METRICS: Metrics = {
  by_step: [
    { step: 1, epoch: 0, train_loss: 2, lr: 0.1, images_per_s: 100, seconds: 0.5 },
    { step: 10, epoch: 0, train_loss: null, lr: 0.1, images_per_s: 110, seconds: 5 },
    { step: 20, epoch: 1, train_loss: 1, lr: 0.05, images_per_s: 120, seconds: 10 },
  ],
  by_epoch: [
    { step: 10, epoch: 1, train_loss: 1.5, val_loss: 1, val_top1: 0.5, val_top5: 0.9, seconds: 5 },
    { step: 20, epoch: 2, train_loss: 1, val_loss: 0.5, val_top1: 0.75, val_top5: 1, seconds: 5 },
  ],
  last_step: 20,
  thinned: false,
};
const PLANNED = { steps: 20, epochs: 2 };

function event(type: JobEvent['type'], state: JobEvent['state'], reason: string | null, data = {}): JobEvent {
  const rest = { object: 'event' as const, lease_epoch: 1, worker: null, request_id: null, job: 'job_1' };
  return { id: '1', seq: 1, at: '2026-11-30T04:00:00Z', type, state, reason, data, ...rest };
}

describe('curves', () => {
  it('places points by step, by epochs that have passed, and by seconds trained', () => {
    expect(placeOf('step', METRICS, PLANNED)(10)).toBe(10);
    expect(placeOf('epoch', METRICS, PLANNED)(15)).toBe(1.5);
    expect([0, 1, 10, 15, 20, 25].map(placeOf('time', METRICS, PLANNED))).toEqual([0, 0.5, 5, 7.5, 10, 10]);
    expect(hasTimes(METRICS)).toBe(true);
    expect(hasTimes(NO_METRICS)).toBe(false);
  });

  it('knows the length of an epoch from the job before the first has ended', () => {
    expect(placeOf('epoch', NO_METRICS, PLANNED)(5)).toBe(0.5);
    expect(placeOf('epoch', NO_METRICS, { steps: null, epochs: null })(5)).toBe(5);
  });

  it('finds the steps of a zoom in each axis of x', () => {
    expect(stepsIn([5.5, 12], (step) => step, 20)).toEqual([6, 12]);
    expect(stepsIn([0.5, 1.5], placeOf('epoch', METRICS, PLANNED), 20)).toEqual([5, 15]);
    expect(stepsIn([15, 99], (step) => step, 20)).toEqual([15, 20]);
  });

  it('draws what was measured: a loss that is no number breaks its line', () => {
    const curves = curvesOf(METRICS, (step) => step, 0.6);
    expect(curves.loss[0]!.values).toEqual([2, null, 1]);
    expect(curves.loss[0]!.smoothing).toBe(0.6);
    expect(curves.accuracy[0]).toMatchObject({ xs: [10, 20], values: [0.5, 0.75], smoothing: 0 });
    expect(curves.extent).toEqual([0, 20]);
  });

  it('puts the star on the best epoch, and nowhere before there is one', () => {
    expect(starOf(METRICS, 2, (step) => step)).toEqual([
      { key: 'val_top1', x: 20, y: 0.75, label: 'best: epoch 2, 75.0 %' },
    ]);
    expect(starOf(METRICS, null, (step) => step)).toEqual([]);
  });

  it('tells a resume from a loss by the event before', () => {
    const events = [
      event('started', 'running', null, { step: 0 }),
      event('checkpoint', 'running', null, { step: 10 }),
      event('state', 'queued', 'resumed'),
      event('started', 'running', null, { step: 12 }),
      event('state', 'queued', 'lease_lost'),
      event('started', 'running', null, { step: 10 }),
    ];
    expect(happeningsOf(events, (step) => step).map(({ x, kind }) => [x, kind])).toEqual([
      [10, 'checkpoint'],
      [12, 'resume'],
      [10, 'lost'],
    ]);
  });

  it('writes a file with one line a step', () => {
    expect(csvOf(METRICS).split('\r\n')).toEqual([
      'step,epoch,train_loss,lr,images_per_s,val_loss,val_top1,val_top5',
      '1,0,2,0.1,100,,,',
      '10,1,1.5,0.1,110,1,0.5,0.9',
      '20,2,1,0.05,120,0.5,0.75,1',
      '',
    ]);
  });
});

describe('confusion', () => {
  const confusion = {
    labels: ['a', 'b', 'c'],
    counts: [
      [9, 0, 1],
      [0, 0, 0],
      [4, 0, 6],
    ],
  };

  it('puts the most confused first, in rows and columns', () => {
    const { labels, counts } = ordered(confusion, 'confusion');
    expect(labels).toEqual(['a', 'c', 'b']);
    expect(counts[1]).toEqual([4, 6, 0]);
    expect(ordered(confusion, 'name')).toEqual(confusion);
  });

  it('has shares of rows, and none of an empty row', () => {
    expect(shares(confusion.counts)).toEqual([
      [0.9, 0, 0.1],
      [0, 0, 0],
      [0.4, 0, 0.6],
    ]);
  });

  it('measures mistakes by the largest one when what is right is hidden, and shows the smallest', () => {
    expect(strengths(confusion.counts, false)[0]).toEqual([0, 0, 0.25]);
    expect(strengths([[999, 1]], true)[0]![1]).toBeGreaterThan(0.1);
  });
});

describe('retry', () => {
  it('sends only what was changed', () => {
    const before = { epochs: 12, lr: 0.05, max_runtime_s: null };
    expect(overridesOf({ epochs: '20', lr: '0.05', max_runtime_s: '' }, before)).toEqual({ epochs: 20 });
  });

  it('begins at the start after divergence, and points at the option that helps', () => {
    expect(startOf({ latest_checkpoint: 'ckpt_1', error: { code: 'diverged' } })).toBe('start');
    expect(startOf({ latest_checkpoint: 'ckpt_1', error: null })).toBe('latest');
    expect(startOf({ latest_checkpoint: null, error: null })).toBe('start');
    expect(optionToChange('diverged')).toBe('lr');
    expect(optionToChange(undefined)).toBeNull();
  });
});

it('reads the pairs that it wrote', () => {
  const pairs = { team: 'vision', note: 'a=b', empty: '' };
  expect(readPairs(writePairs(pairs))).toEqual(pairs);
  expect(readPairs('  \n team = x \nalone')).toEqual({ team: 'x', alone: '' });
});

it('sums how long a job waited and ran', () => {
  const history = [
    { state: 'queued' as const, at: '2026-11-30T04:00:00Z' },
    { state: 'running' as const, at: '2026-11-30T04:00:10Z' },
    { state: 'queued' as const, at: '2026-11-30T04:00:40Z' },
  ];
  const strip = stripOf(history, Date.parse('2026-11-30T04:01:00Z'));
  expect(strip.sums).toEqual([
    { state: 'queued', seconds: 30 },
    { state: 'running', seconds: 30 },
  ]);
  expect(strip.parts.reduce((sum, part) => sum + part.share, 0)).toBeCloseTo(1);
  const ended = stripOf([...history, { state: 'cancelled', at: '2026-11-30T04:00:50Z' }], Date.now());
  expect(ended.parts.at(-1)).toMatchObject({ state: 'cancelled', seconds: 0 });
});

it('says events as sentences', () => {
  expect(sayEvent(event('checkpoint', 'running', null, { kind: 'epoch', epoch: 3, step: 1234 }))).toBe(
    'checkpoint of epoch 3, step 1,234',
  );
  expect(sayEvent(event('started', 'running', null, { step: 0, device: 'cpu' }))).toBe(
    'trainer starts on cpu',
  );
  expect(sayEvent(event('state', 'queued', 'submitted'))).toBe('queued: submitted');
});
