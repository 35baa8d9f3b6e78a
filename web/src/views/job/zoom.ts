/** A zoom as it stands in the address: `100~400`. */

import type { Range } from '../../charts/spec';

/** Reads a range; null where there is none, or what is there is no range. */
export function rangeOf(text: string | null): Range | null {
  const [low, high] = (text ?? '').split('~').map(Number);
  return low !== undefined && high !== undefined && high > low ? [low, high] : null;
}

/** Writes a range, with as many digits as a drag is exact to. */
export function writeRange(range: Range | null): string | null {
  return range === null ? null : range.map((x) => Number(x.toPrecision(7))).join('~');
}
