/** Where the points of a job stand on x: by step, by epoch, or by the time that was trained. */

import { nearest } from '../../charts/align';
import type { XMode } from '../../charts/axes';
import { isNumber } from '../../charts/smooth';
import type { Range } from '../../charts/spec';
import { stepsPerEpoch, type Metrics, type StepPoint } from '../../state/points';

/** Converts a step to a position of x. */
export type Place = (step: number) => number;

/**
 * Returns how steps become positions: themselves, epochs that have passed, or seconds trained. Before the first epoch
 * has ended `planned`, the job's own numbers, says how many steps an epoch has.
 */
export function placeOf(
  mode: XMode,
  metrics: Metrics,
  planned: { steps: number | null; epochs: number | null },
): Place {
  if (mode === 'step') return (step) => step;
  if (mode === 'time') {
    const timed = metrics.by_step.filter((point) => isNumber(point.seconds));
    const steps = timed.map((point) => point.step);
    return (step) => secondsAt(step, steps, timed);
  }
  const perEpoch =
    stepsPerEpoch(metrics.by_epoch) ?? (planned.steps && planned.epochs ? planned.steps / planned.epochs : 1);
  return (step) => step / perEpoch;
}

/** Returns the seconds trained at a step, between two points in proportion. */
function secondsAt(step: number, steps: readonly number[], timed: readonly StepPoint[]): number {
  const at = nearest(steps, step);
  const near = timed[at];
  if (near === undefined) return 0;
  const other =
    timed[near.step < step ? at + 1 : at - 1] ?? (near.step < step ? near : { step: 0, seconds: 0 });
  const [seconds, others] = [near.seconds ?? 0, other.seconds ?? 0];
  if (other.step === near.step) return seconds;
  return seconds + ((step - near.step) / (other.step - near.step)) * (others - seconds);
}

/** Returns the steps whose positions lie in a range of x; positions grow with the steps. */
export function stepsIn([low, high]: Range, place: Place, last: number): [number, number] {
  return [firstFrom(low, place, last), firstFrom(high, place, last)];
}

function firstFrom(x: number, place: Place, last: number): number {
  let [low, high] = [0, Math.max(last, 0)];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (place(middle) < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Tells whether the series say how many seconds were trained until each point. */
export function hasTimes(metrics: Metrics): boolean {
  return metrics.by_step.some((point) => isNumber(point.seconds));
}
