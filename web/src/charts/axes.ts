/** What stands on the axes of a chart: steps as 2k, times as 1 h 20, accuracies as %, losses by powers of ten. */

export type XMode = 'step' | 'epoch' | 'time';

/** What an axis of y measures; it decides how its values are written. */
export type Measure = 'loss' | 'accuracy' | 'rate' | 'speed';

export const X_NAMES: Record<XMode, string> = { step: 'step', epoch: 'epoch', time: 'time trained' };

/** Writes the value of a tick of x. */
export function xTick(mode: XMode, value: number): string {
  return mode === 'time' ? shortTime(value) : shortCount(value);
}

/** Writes the value of a tick of y. Ticks that are close, `step` apart, get more digits. */
export function yTick(measure: Measure, value: number, step: number): string {
  if (measure === 'speed') return shortCount(value);
  if (measure !== 'accuracy') return shortNumber(value);
  const digits = Math.min(3, Math.max(0, Math.ceil(-Math.log10(step * 100) - 1e-9)));
  return `${(value * 100).toFixed(digits)} %`;
}

/** Writes a number of steps or images briefly: 950, 2k, 12.5k, 1.2M. */
export function shortCount(n: number): string {
  const size = Math.abs(n);
  if (size >= 1e6) return `${rounded(n / 1e6, 2)}M`;
  if (size >= 1e3) return `${rounded(n / 1e3, size >= 1e4 ? 1 : 2)}k`;
  return rounded(n, 2);
}

/** Writes a time trained briefly, as it fits below a tick: 45 s, 3 min, 3:20, 1 h 20. */
export function shortTime(seconds: number): string {
  if (seconds === 0) return '0';
  if (seconds < 60) return `${rounded(seconds, 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600)
    return whole % 60 === 0 ? `${whole / 60} min` : `${Math.floor(whole / 60)}:${two(whole % 60)}`;
  const minutes = Math.round(whole / 60);
  return minutes % 60 === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)}`;
}

/** Writes a loss or a learning rate of any size with up to three digits: 2.5, 0.02, 1e-5. */
export function shortNumber(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 1e4 && size >= 1e-3) return String(Number(value.toPrecision(3)));
  const exponent = Math.floor(Math.log10(size) + 1e-9);
  return `${rounded(value / 10 ** exponent, 2)}e${exponent}`;
}

const DAY_S = 86400;
const TIME_INCREMENTS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];

/** Returns the distances between ticks of x that read well, ascending. */
export function xIncrements(mode: XMode): number[] {
  if (mode === 'time') return [...TIME_INCREMENTS, ...[1, 2, 5, 10, 20, 50, 100].map((days) => days * DAY_S)];
  return Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((head) => head * 10 ** power)).flat();
}

/**
 * Chooses the range of y that shows values from `low` to `high` well.
 *
 * A line that hardly moves is not blown up: the range is at least 2 % of its size. An accuracy stays within 0 to 1,
 * and what can't be negative begins at 0 or above. With `log` both bounds are over 0.
 */
export function yRange(measure: Measure, low: number, high: number, log: boolean): [number, number] {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return log ? [0.1, 10] : [0, 1];
  if (log) {
    const factor = Math.max((high / low) ** 0.06, 1.1);
    return [low / factor, high * factor];
  }
  if (measure === 'speed' || measure === 'rate') return [0, high > 0 ? high * 1.08 : 1];
  const least = Math.max(Math.abs(high), Math.abs(low)) * 0.02 || 0.01;
  const pad = Math.max((high - low) * 0.06, (least - (high - low)) / 2);
  const top = measure === 'accuracy' ? Math.min(1.01, high + pad) : high + pad;
  return [low >= 0 ? Math.max(0, low - pad) : low - pad, top];
}

function rounded(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}

function two(n: number): string {
  return String(n).padStart(2, '0');
}
