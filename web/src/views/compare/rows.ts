/** The rows of a comparison: what jobs achieved and what they were told, and where they differ. */

import { duration, loss, NONE, percent } from '../../format';
import type { Job } from '../../state/job.svelte';
import { numberIn } from '../job/numbers';

export interface Cell {
  text: string;
  /** The difference to the baseline, as it is written; '' for the baseline and where it can't be said. */
  change: string;
  /** Whether the change is for the better; null: neither, or nobody can say. */
  better: boolean | null;
  best: boolean;
}

export interface Row {
  name: string;
  group: 'result' | 'option' | 'about';
  cells: Cell[];
  differs: boolean;
}

interface Result {
  name: string;
  of: (job: Job) => number | null;
  write: (value: number) => string;
  writeChange: (change: number) => string;
  /** Whether more is better; null: neither. */
  up: boolean | null;
}

const points = (change: number): string => `${signed((change * 100).toFixed(2))} points`;
const RESULTS: readonly Result[] = [
  {
    name: 'best validation',
    of: (job) => numberIn(job.best, 'val_top1'),
    write: percent,
    writeChange: points,
    up: true,
  },
  {
    name: 'best epoch',
    of: (job) => numberIn(job.best, 'epoch'),
    write: String,
    writeChange: (n) => signed(String(n)),
    up: null,
  },
  { name: 'test', of: (job) => numberIn(job.test, 'top1'), write: percent, writeChange: points, up: true },
  {
    name: 'validation loss',
    of: (job) => numberIn(job.best, 'val_loss'),
    write: loss,
    writeChange: (n) => signed(loss(n)),
    up: false,
  },
  {
    name: 'train loss',
    of: (job) => numberIn(job.metrics, 'train_loss'),
    write: loss,
    writeChange: (n) => signed(loss(n)),
    up: null,
  },
  {
    name: 'trained',
    of: secondsOf,
    write: duration,
    writeChange: (n) => `${n < 0 ? '−' : '+'}${duration(Math.abs(n))}`,
    up: null,
  },
];

/** Returns all rows: results, then options, then what the jobs are. `baseline` is one of them by its index. */
export function rowsOf(jobs: readonly Job[], baseline: number): Row[] {
  const results = RESULTS.map((result) => resultRow(result, jobs, baseline));
  const options = namesOf(jobs.map((job) => job.config)).map((name) =>
    textRow(
      'option',
      name,
      jobs.map((job) => job.config[name]),
      baseline,
    ),
  );
  const pairs = namesOf(jobs.map((job) => job.metadata)).map((name) =>
    textRow(
      'about',
      name,
      jobs.map((job) => job.metadata[name]),
      baseline,
    ),
  );
  const about = (['dataset', 'recipe', 'seed', 'init_from', 'max_runtime_s'] as const).map((name) =>
    textRow(
      'about',
      name,
      jobs.map((job) => job[name]),
      baseline,
    ),
  );
  return [...results, ...options, ...about, ...pairs];
}

function resultRow(result: Result, jobs: readonly Job[], baseline: number): Row {
  const values = jobs.map(result.of);
  const known = values.filter((value) => value !== null);
  const base = values[baseline] ?? null;
  const best =
    result.up === null || new Set(known).size < 2
      ? null
      : result.up
        ? Math.max(...known)
        : Math.min(...known);
  return {
    name: result.name,
    group: 'result',
    differs: new Set(values).size > 1,
    cells: values.map((value, i) => {
      const change = value === null || base === null || i === baseline ? 0 : value - base;
      const seen = change !== 0 && result.write(value ?? 0) !== result.write(base ?? 0);
      return {
        text: value === null ? NONE : result.write(value),
        change: seen ? result.writeChange(change) : '',
        better: !seen || result.up === null ? null : change > 0 === result.up,
        best: value !== null && value === best,
      };
    }),
  };
}

function textRow(group: Row['group'], name: string, values: readonly unknown[], baseline: number): Row {
  const texts = values.map(write);
  return {
    name,
    group,
    differs: new Set(texts).size > 1,
    cells: texts.map((text, i) => ({
      text,
      change: i !== baseline && text !== texts[baseline] ? '≠' : '',
      better: null,
      best: false,
    })),
  };
}

function namesOf(objects: readonly Record<string, unknown>[]): string[] {
  return [...new Set(objects.flatMap((object) => Object.keys(object)))];
}

function write(value: unknown): string {
  if (value === null || value === undefined) return NONE;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function secondsOf(job: Job): number | null {
  if (job.started_at === null || job.finished_at === null) return null;
  return (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000;
}

/** A number with its sign, the minus as wide as the plus. */
function signed(text: string): string {
  return text.startsWith('-') ? `−${text.slice(1)}` : `+${text}`;
}
