/** How the points of a chart are written: in its legend, its table and what a screen reader says. */

import { count, duration, loss, percent } from '../format';
import { shortNumber, type Measure, type XMode } from './axes';

/** Writes a value of y. */
export function writeValue(measure: Measure, value: number | null | undefined): string {
  if (value === null || value === undefined) return '-';
  switch (measure) {
    case 'accuracy':
      return percent(value);
    case 'speed':
      return count(value);
    case 'rate':
      return shortNumber(value);
    case 'loss':
      return loss(value);
  }
}

/** Writes a position of x: "step 3,376", "epoch 7", "3 min 10 s". */
export function writePlace(mode: XMode, x: number): string {
  if (mode === 'time') return duration(x);
  return mode === 'step' ? `step ${count(x)}` : `epoch ${Number(x.toFixed(2))}`;
}
