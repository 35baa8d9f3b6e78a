/** The lines of a job's four charts, made of its two series. */

import { JOB_LOOKS } from '../../charts/palette';
import { isNumber, type Value } from '../../charts/smooth';
import type { ChartLine, Happening, Range, Star } from '../../charts/spec';
import { percent } from '../../format';
import type { JobEvent } from '../../state/events.svelte';
import type { EpochPoint, Metrics, StepPoint } from '../../state/points';
import type { Place } from './places';

export interface JobCurves {
  loss: ChartLine[];
  accuracy: ChartLine[];
  rate: ChartLine[];
  speed: ChartLine[];
  extent: Range;
}

/** Makes the lines. `smoothing` is of the series by step; those by epoch are drawn as they are. */
export function curvesOf(metrics: Metrics, place: Place, smoothing: number): JobCurves {
  const steps = column(metrics.by_step, place);
  const epochs = column(metrics.by_epoch, place);
  const banded = metrics.by_step.some((point) => isNumber(point.train_loss_min));
  return {
    loss: [
      {
        ...steps('train_loss', 'train', smoothing),
        ...(banded && {
          low: metrics.by_step.map((point) => point.train_loss_min),
          high: metrics.by_step.map((point) => point.train_loss_max),
        }),
      },
      epochs('val_loss', 'validation'),
    ],
    accuracy: [epochs('val_top1', 'top-1'), epochs('val_top5', 'top-5')],
    rate: [steps('lr', 'rate')],
    speed: [steps('images_per_s', 'speed', smoothing)],
    extent: extentOf(metrics, place),
  };
}

function column<P extends StepPoint | EpochPoint>(points: readonly P[], place: Place) {
  const xs = points.map((point) => place(point.step));
  return (key: keyof P & keyof typeof JOB_LOOKS, name: string, smoothing = 0): ChartLine => ({
    key,
    name,
    look: JOB_LOOKS[key],
    xs,
    values: points.map((point) => point[key] as Value),
    smoothing,
  });
}

function extentOf(metrics: Metrics, place: Place): Range {
  const last = Math.max(metrics.by_step.at(-1)?.step ?? 0, metrics.by_epoch.at(-1)?.step ?? 0);
  return [0, place(last)];
}

/** Returns the star of the best epoch, or none before there is one. */
export function starOf(metrics: Metrics, bestEpoch: number | null, place: Place): Star[] {
  const best = metrics.by_epoch.find((point) => point.epoch === bestEpoch);
  if (best === undefined || !isNumber(best.val_top1)) return [];
  const label = `best: epoch ${best.epoch}, ${percent(best.val_top1, 1)}`;
  return [{ key: 'val_top1', x: place(best.step), y: best.val_top1, label }];
}

/** Returns what happened at which position: checkpoints, and where the run went on after a pause or a loss. */
export function happeningsOf(events: readonly JobEvent[], place: Place): Happening[] {
  const found: Happening[] = [];
  let why: string | null = null;
  for (const event of events) {
    const step = typeof event.data.step === 'number' ? event.data.step : null;
    if (event.type === 'state' && event.state !== 'running') why = event.reason;
    if (step === null || step === 0) continue;
    if (event.type === 'checkpoint')
      found.push({ x: place(step), kind: 'checkpoint', label: `checkpoint at step ${step}` });
    if (event.type === 'started') {
      const resumed = why === 'resumed' || why === 'drain';
      found.push({ x: place(step), kind: resumed ? 'resume' : 'lost', label: `went on at step ${step}` });
    }
  }
  return found;
}
