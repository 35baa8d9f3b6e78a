import { describe, expect, it } from 'vitest';
import {
  countSlots,
  inOrder,
  lastFirst,
  partsOf,
  sayGone,
  recentlyLost,
  usageOf,
  type Readiness,
  type Worker,
} from '../../src/views/yard/facts';

const READY: Readiness = {
  status: 'ready',
  database: 'ok',
  migrations: 'ok',
  detail: null,
  version: '1',
  storage: 'ok',
  storage_detail: null,
  draining: false,
  queue: 'ok',
  model: 'ok',
};

const worker = (id: string, state: Worker['state'], busy: boolean[]): Worker => ({
  id,
  object: 'worker',
  host: id,
  pid: 1,
  state,
  version: '1',
  slots: busy.map((isBusy) => ({
    device: 'cpu',
    busy: isBusy,
    job: null,
    device_name: null,
    memory_bytes: null,
    memory_used_bytes: null,
    utilisation: null,
  })),
  started_at: '2026-01-01T00:00:00Z',
  last_seen_at: '2026-01-01T00:00:00Z',
  stopped_at: null,
});

describe('the use of a device', () => {
  const [cpu] = worker('w', 'live', [false]).slots;
  const gpu = { ...cpu!, memory_bytes: 80e9, memory_used_bytes: 9.1e9, utilisation: 0.62 };

  it('is told as far as the driver tells it', () => {
    expect(usageOf(gpu)).toBe('62 % busy, 9.1 GB of 80 GB');
    expect(usageOf({ ...gpu, utilisation: null })).toBe('9.1 GB of 80 GB');
    expect(usageOf({ ...gpu, utilisation: 0, memory_used_bytes: null })).toBe('0 % busy');
  });

  it('is not told of a CPU, and not by a yard of an earlier version', () => {
    expect(usageOf(cpu!)).toBe('');
    expect(usageOf({ device: 'cpu', busy: false, job: null } as typeof gpu)).toBe('');
  });
});

describe('the parts of a yard', () => {
  it('are all good where nothing is wrong, and say nothing of tables that fit', () => {
    expect(partsOf(READY).map(({ name, tone }) => [name, tone])).toEqual([
      ['database', 'good'],
      ['storage', 'good'],
      ['queue', 'good'],
      ['model', 'good'],
    ]);
  });

  it('say what is wrong, with its sentence', () => {
    const parts = partsOf({
      ...READY,
      database: 'read_only',
      migrations: 'behind',
      detail: 'run it',
      storage: 'failed',
      storage_detail: 'full',
    });
    expect(parts.slice(0, 3)).toEqual([
      { name: 'database', word: 'read only', tone: 'warn', detail: null },
      { name: 'tables', word: 'behind', tone: 'bad', detail: 'run it' },
      { name: 'storage', word: 'failed', tone: 'bad', detail: 'full' },
    ]);
  });

  it('take no model yet for no fault', () => {
    expect(partsOf({ ...READY, model: 'none' }).at(-1)).toEqual({
      name: 'model',
      word: 'none yet',
      tone: 'dim',
      detail: null,
    });
  });
});

it('counts the slots of workers that take jobs', () => {
  const workers = [
    worker('a', 'live', [true, false]),
    worker('b', 'lost', [false]),
    worker('c', 'draining', [true]),
  ];
  expect(countSlots(workers)).toEqual({ all: 2, free: 1 });
});

it('puts workers that take jobs first', () => {
  const workers = [
    worker('d', 'stopped', []),
    worker('c', 'lost', []),
    worker('b', 'live', []),
    worker('a', 'live', []),
  ];
  expect(inOrder(workers).map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd']);
});

describe('workers that are gone', () => {
  const NOW = Date.parse('2026-01-01T12:00:00Z');
  const gone = (id: string, at: string, stopped: boolean): Worker => ({
    ...worker(id, stopped ? 'stopped' : 'lost', [false]),
    last_seen_at: at,
    stopped_at: stopped ? at : null,
  });

  it('are lost workers for an hour only', () => {
    const lost = [gone('a', '2026-01-01T11:30:00Z', false), gone('b', '2026-01-01T10:30:00Z', false)];
    expect(recentlyLost(lost, NOW).map(({ id }) => id)).toEqual(['a']);
  });

  it('are counted in words', () => {
    expect([sayGone(0, 0), sayGone(1, 0), sayGone(12, 0)]).toEqual([
      '',
      '1 stopped worker',
      '12 stopped workers',
    ]);
    expect([sayGone(0, 2), sayGone(12, 1)]).toEqual(['2 lost workers', '12 stopped and 1 lost worker']);
  });

  it('come in the order of their ends', () => {
    const all = [
      gone('a', '2026-01-01T09:00:00Z', true),
      gone('b', '2026-01-01T11:00:00Z', false),
      gone('c', '2026-01-01T10:00:00Z', true),
    ];
    expect(lastFirst(all).map(({ id }) => id)).toEqual(['b', 'c', 'a']);
  });
});
