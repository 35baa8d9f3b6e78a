/** A job's points as a file for a spreadsheet. */

import type { Metrics } from '../../state/points';

const COLUMNS = [
  'step',
  'epoch',
  'train_loss',
  'lr',
  'images_per_s',
  'val_loss',
  'val_top1',
  'val_top5',
] as const;

/** Returns one line a step: what was measured there in either series; of a step in both the epoch's train loss counts. */
export function csvOf(metrics: Metrics): string {
  const rows = new Map<number, Record<string, unknown>>();
  for (const point of [...metrics.by_step, ...metrics.by_epoch]) {
    rows.set(point.step, { ...rows.get(point.step), ...point });
  }
  const lines = [...rows.values()]
    .sort((a, b) => Number(a.step) - Number(b.step))
    .map((row) => COLUMNS.map((name) => row[name] ?? '').join(','));
  return [COLUMNS.join(','), ...lines, ''].join('\r\n');
}

/** Lets the browser save the points. */
export function saveCsv(job: string, metrics: Metrics): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([csvOf(metrics)], { type: 'text/csv' }));
  link.download = `${job}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
