/** Which jobs the list shows and in which order, and what it says of each. */

import { count, duration, nameOf, NONE, percent } from '../../format';
import type { JobRow } from '../../state/jobs.svelte';
import { sayState, type State } from '../../words';
import { numberIn } from '../job/numbers';

export interface Filter {
  /** Words that must all be in the name, id, dataset, recipe, state or metadata. */
  text: string;
  states: readonly State[];
  dataset: string | null;
}

export const SORTS = ['newest', 'name', 'best', 'state'] as const;
export type Sort = (typeof SORTS)[number];

/** Returns a dataset's name out of a built-in one's id; any other id is as it is. */
export function datasetOf(row: Pick<JobRow, 'dataset'>): string {
  return row.dataset.replace(/^ds_(?!.{20})/, '');
}

/** Tells whether a job passes the filter. */
export function passes(row: JobRow, filter: Filter): boolean {
  if (filter.states.length > 0 && !filter.states.includes(row.state)) return false;
  if (filter.dataset !== null && row.dataset !== filter.dataset) return false;
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const pairs = Object.entries(row.metadata).map(([key, value]) => `${key}=${value}`);
  const text = [row.name ?? '', row.id, row.dataset, row.recipe ?? '', row.state, ...pairs]
    .join(' ')
    .toLowerCase();
  return words.every((word) => text.includes(word));
}

const STATE_ORDER: readonly State[] = [
  'running',
  'pausing',
  'cancelling',
  'queued',
  'paused',
  'failed',
  'succeeded',
  'cancelled',
];

/** Returns the jobs in order; those that are equal are in the order of their ids, newest first. */
export function sorted(rows: JobRow[], sort: Sort): JobRow[] {
  const orders: Record<Sort, (a: JobRow, b: JobRow) => number> = {
    newest: () => 0,
    name: (a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }),
    best: (a, b) => (bestOf(b) ?? -1) - (bestOf(a) ?? -1),
    state: (a, b) => STATE_ORDER.indexOf(a.state) - STATE_ORDER.indexOf(b.state),
  };
  return [...rows].sort((a, b) => orders[sort](a, b) || (a.id < b.id ? 1 : -1));
}

/** Returns the accuracy that a job is judged by in the list: its best on the validation images. */
export function bestOf(row: JobRow): number | null {
  return numberIn(row.best, 'val_top1');
}

/** What stands in the column of progress: a bar where something moves or stands still, and two lines of words. */
export interface Told {
  bar: number | null;
  first: string;
  second: string;
}

/** Says how far a job is. */
export function sayProgress(row: JobRow): Told {
  const { progress } = row;
  const epochs = progress.epochs === null ? '' : `/${progress.epochs}`;
  const epoch = `epoch ${progress.epoch}${epochs}`;
  switch (row.state) {
    case 'queued':
      return {
        bar: progress.fraction > 0 ? progress.fraction : null,
        first: sayState(row) || 'waits',
        second: '',
      };
    case 'running': {
      const rest =
        progress.eta_s === null || progress.steps === null ? '' : `, ${duration(progress.eta_s)} left`;
      return { bar: progress.fraction, first: percent(progress.fraction, 0), second: `${epoch}${rest}` };
    }
    case 'pausing':
    case 'cancelling':
    case 'paused':
      return { bar: progress.fraction, first: percent(progress.fraction, 0), second: epoch };
    case 'succeeded': {
      const test = numberIn(row.test, 'top1');
      return { bar: null, first: test === null ? epoch : `test ${percent(test)}`, second: '' };
    }
    case 'failed':
      return {
        bar: null,
        first: `${row.error?.code ?? 'failed'}`,
        second: `step ${count(progress.step)}, ${epoch}`,
      };
    case 'cancelled':
      return { bar: null, first: progress.step > 0 ? epoch : 'not begun', second: '' };
  }
}

/** Says how fast a running job is or how long one that ended took; '' where there is nothing to say. */
export function sayPace(row: JobRow): string {
  if (row.state === 'running') {
    return row.progress.images_per_s === null ? '' : `${count(row.progress.images_per_s)} images/s`;
  }
  if (row.started_at === null || row.finished_at === null) return '';
  return `took ${duration((Date.parse(row.finished_at) - Date.parse(row.started_at)) / 1000)}`;
}

/** Returns since when a job is what it is, and the word for it. */
export function sinceOf(row: JobRow): { word: string; at: string } {
  if (row.finished_at !== null) return { word: '', at: row.finished_at };
  if (row.started_at !== null && row.state !== 'queued' && row.state !== 'paused') {
    return { word: 'started ', at: row.started_at };
  }
  return { word: '', at: row.created_at };
}

/** Says what a small curve shows, for those who don't see it. */
export function saySpark(row: JobRow): string {
  const best = bestOf(row);
  return best === null ? 'curve of the loss' : `curve, best ${best === null ? NONE : percent(best, 1)}`;
}

/** Returns all keys of metadata that jobs have, in order. */
export function metadataKeys(rows: Iterable<JobRow>): string[] {
  const keys = new Set<string>();
  for (const row of rows) for (const key of Object.keys(row.metadata)) keys.add(key);
  return [...keys].sort();
}
