/** The lines of a comparison: one metric of several jobs. */

import type { Measure, XMode } from '../../charts/axes';
import type { LineLook } from '../../charts/palette';
import { isNumber, type Value } from '../../charts/smooth';
import type { ChartLine, Range, Star } from '../../charts/spec';
import { nameOf } from '../../format';
import type { ComparedJob } from '../../state/compared.svelte';
import { placeOf } from '../job/places';
import { numberIn } from '../job/numbers';

export type MetricName = 'val_top1' | 'val_top5' | 'val_loss' | 'train_loss' | 'lr' | 'images_per_s';

export interface Metric {
  name: MetricName;
  text: string;
  measure: Measure;
  series: 'by_step' | 'by_epoch';
}

export const METRICS: readonly [Metric, ...Metric[]] = [
  { name: 'val_top1', text: 'validation top-1', measure: 'accuracy', series: 'by_epoch' },
  { name: 'val_top5', text: 'validation top-5', measure: 'accuracy', series: 'by_epoch' },
  { name: 'val_loss', text: 'validation loss', measure: 'loss', series: 'by_epoch' },
  { name: 'train_loss', text: 'train loss', measure: 'loss', series: 'by_step' },
  { name: 'lr', text: 'learning rate', measure: 'rate', series: 'by_step' },
  { name: 'images_per_s', text: 'images/s', measure: 'speed', series: 'by_step' },
];

/** Returns the jobs' names; of those that are the same, each with the end of its id. */
export function namesOf(jobs: readonly { id: string; name: string | null }[]): Map<string, string> {
  const names = jobs.map(nameOf);
  return new Map(
    jobs.map((job, i) => {
      const name = names[i]!;
      return [
        job.id,
        names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} …${job.id.slice(-4)}`,
      ];
    }),
  );
}

/** Returns a line for each job. */
export function linesOf(
  compared: readonly ComparedJob[],
  metric: Metric,
  mode: XMode,
  smoothing: number,
  looks: ReadonlyMap<string, LineLook>,
): ChartLine[] {
  const names = namesOf(compared.map(({ job }) => job));
  return compared.map(({ job, metrics }) => {
    const place = placeOf(mode, metrics, job.progress);
    const points: readonly { step: number }[] = metrics[metric.series];
    return {
      key: job.id,
      name: names.get(job.id)!,
      look: looks.get(job.id) ?? { colour: 0, dash: [] },
      xs: points.map((point) => place(point.step)),
      values: points.map((point) => (point as unknown as Record<string, Value>)[metric.name]),
      smoothing,
    };
  });
}

/** Returns a star for the best epoch of each job, where the metric is what chooses it. */
export function starsOf(compared: readonly ComparedJob[], metric: Metric, mode: XMode): Star[] {
  if (metric.name !== 'val_top1') return [];
  return compared.flatMap(({ job, metrics }) => {
    const best = metrics.by_epoch.find((point) => point.epoch === numberIn(job.best, 'epoch'));
    if (best === undefined || !isNumber(best.val_top1)) return [];
    return [{ key: job.id, x: placeOf(mode, metrics, job.progress)(best.step), y: best.val_top1, label: '' }];
  });
}

/** Returns the range of x in which all lines lie. */
export function extentOf(lines: readonly ChartLine[]): Range {
  return [0, Math.max(1, ...lines.map((line) => line.xs.at(-1) ?? 0))];
}
