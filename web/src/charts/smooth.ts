/**
 * The smoothing of a curve: a time-weighted exponential moving average whose start is corrected for its bias, as
 * Weights & Biases documents it (https://docs.wandb.ai/guides/app/features/panels/line-plot/smoothing).
 *
 * The weight of the past depends on the distance in x, so a thinned series and a whole one give the same line. A
 * constant series stays constant. A null is no value: it stays null, so the line is broken there, and the average
 * goes on behind it.
 */

/** A number; null where a measured value is no number; undefined where nothing was measured. */
export type Value = number | null | undefined;

/** The range of x is divided into this many units; over one of them the past keeps the weight `sqrt(amount)`. */
const UNITS = 1000;
/** Beyond this the line would hardly ever move. */
const MOST_WEIGHT = 0.999;

/**
 * Returns the smoothed values.
 *
 * @param xs ascending positions, as many as there are values
 * @param amount 0 (none) to just under 1
 * @param range the width of x that the smoothing refers to; by default that of `xs`. Give the width of the whole
 *   series for a part of it, so that a zoom does not change the line.
 */
export function smooth(
  xs: readonly number[],
  values: readonly Value[],
  amount: number,
  range: number = widthOf(xs),
): Value[] {
  if (!(amount > 0) || !(range > 0)) return [...values];
  const weight = Math.min(Math.sqrt(amount), MOST_WEIGHT);
  let sum = 0;
  let total = 0;
  let previous: number | undefined;
  return values.map((value, i) => {
    if (!isNumber(value)) return value === undefined ? undefined : null;
    const x = xs[i]!;
    const kept = previous === undefined ? 1 : weight ** (((x - previous) / range) * UNITS);
    previous = x;
    sum = sum * kept + value;
    total = total * kept + 1;
    return sum / total;
  });
}

/** Tells whether a value is a number that can be drawn. */
export function isNumber(value: Value): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function widthOf(xs: readonly number[]): number {
  return xs.length > 1 ? xs.at(-1)! - xs[0]! : 0;
}
