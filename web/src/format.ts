/** Numbers, times and sizes as text. A value that is missing is "-". */

export const NONE = '-';

type Maybe<T> = T | null | undefined;

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const integers = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** A share as percent: `percent(0.97222)` is "97.22 %"; lists take one digit. */
export function percent(share: Maybe<number>, digits = 2): string {
  return missing(share) ? NONE : `${(share * 100).toFixed(digits)} %`;
}

/** A loss, with three significant digits: "0.0123", "2.30", "1.2e-7". */
export function loss(value: Maybe<number>): string {
  if (missing(value)) return NONE;
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e4) ? value.toExponential(2) : value.toPrecision(3);
}

/** A whole number with commas: "1,832". */
export function count(value: Maybe<number>): string {
  return missing(value) ? NONE : integers.format(value);
}

/** A number of something: "1 image", "1,832 images". */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${Math.round(value) === 1 ? one : many}`;
}

/** A size: "512 B", "31 MB", "1.1 GB"; a thousand each, as disks are sold. */
export function bytes(size: Maybe<number>): string {
  if (missing(size)) return NONE;
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = size;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

/** A length of time by its two largest units: "8 ms", "24 s", "3 min 10 s", "2 h 5 min", "3 d". */
export function duration(seconds: Maybe<number>): string {
  if (missing(seconds)) return NONE;
  const size = Math.max(0, seconds);
  if (size < 1) return `${Math.round(size * 1000)} ms`;
  if (size < 9.95) return `${Number(size.toFixed(1))} s`;
  const whole = Math.round(size);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return two(whole, MINUTE, 'min', 1, 's');
  if (whole < DAY) return two(whole, HOUR, 'h', MINUTE, 'min');
  return two(whole, DAY, 'd', HOUR, 'h');
}

/** How long ago something was, by the server's clock: "just now", "4 min ago". */
export function ago(at: Maybe<string | number | Date>, now: Date | number = Date.now()): string {
  if (at === null || at === undefined) return NONE;
  const seconds = (Number(now) - new Date(at).getTime()) / 1000;
  if (seconds < 5) return 'just now';
  if (seconds < MINUTE) return `${Math.floor(seconds)} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  return `${Math.floor(seconds / DAY)} d ago`;
}

/** The clock time, with the date unless it is today: "14:32", "3 Nov, 14:32". */
export function clock(at: Maybe<string | number | Date>, now: Date | number = Date.now()): string {
  if (at === null || at === undefined) return NONE;
  const time = new Date(at);
  const hour = time.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
  if (time.toDateString() === new Date(now).toDateString()) return hour;
  return `${time.toLocaleDateString('en-GB', { day: 'numeric', month: 'short' })}, ${hour}`;
}

/** The full time, for a title. */
export function fullTime(at: Maybe<string | number | Date>): string {
  return at === null || at === undefined
    ? ''
    : new Date(at).toLocaleString('en-GB', { timeZoneName: 'short' });
}

/** The end of an id, by which people tell two apart. */
export function tail(id: string, length = 6): string {
  return id.slice(-length);
}

/** A job's name, or the end of its id. */
export function nameOf(job: { id: string; name: string | null }): string {
  return job.name ?? `job …${tail(job.id)}`;
}

function missing(value: Maybe<number>): value is null | undefined {
  return value === null || value === undefined || !Number.isFinite(value);
}

function two(whole: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((whole % large) / small);
  return `${Math.floor(whole / large)} ${largeName}${rest === 0 ? '' : ` ${rest} ${smallName}`}`;
}
