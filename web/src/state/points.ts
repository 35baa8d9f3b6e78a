/** The points of a job's two series, as `GET /jobs/{id}/metrics` gives them, and how an increment joins them. */

export interface StepPoint {
  step: number;
  epoch: number;
  train_loss: number | null;
  lr: number | null;
  images_per_s: number | null;
  /** Lowest and highest train loss of the points that this one stands for; only with `band`. */
  train_loss_min?: number | null;
  train_loss_max?: number | null;
  /** Seconds trained until here, all attempts together. */
  seconds?: number | null;
}

export interface EpochPoint {
  step: number;
  epoch: number;
  train_loss: number | null;
  val_loss: number | null;
  val_top1: number | null;
  val_top5: number | null;
  seconds: number | null;
}

export interface Metrics {
  by_step: StepPoint[];
  by_epoch: EpochPoint[];
  last_step: number;
  thinned: boolean;
}

export const NO_METRICS: Metrics = { by_step: [], by_epoch: [], last_step: -1, thinned: false };

/**
 * Returns the series with an increment that was asked for with `after` the series' `last_step`.
 *
 * Points come in the order of their steps. One that is there already is replaced: the epoch that ended at `last_step`
 * is sent again. Returns null if the run went back to an earlier checkpoint meanwhile, which undid points that are
 * here: then the whole series must be read.
 */
export function mergeMetrics(old: Metrics, increment: Metrics): Metrics | null {
  if (increment.last_step < old.last_step) return null;
  return {
    by_step: mergePoints(old.by_step, increment.by_step),
    by_epoch: mergePoints(old.by_epoch, increment.by_epoch),
    last_step: increment.last_step,
    thinned: old.thinned || increment.thinned,
  };
}

function mergePoints<P extends { step: number }>(old: P[], more: P[]): P[] {
  const from = more[0]?.step;
  if (from === undefined) return old;
  if ((old.at(-1)?.step ?? -1) < from) return [...old, ...more];
  const sent = new Set(more.map((point) => point.step));
  return [...old.filter((point) => !sent.has(point.step)), ...more].sort((a, b) => a.step - b.step);
}

/** Returns how many steps an epoch has, from the epochs that have ended; null before the first. */
export function stepsPerEpoch(epochs: readonly EpochPoint[]): number | null {
  const last = epochs.at(-1);
  return last && last.epoch > 0 ? last.step / last.epoch : null;
}
