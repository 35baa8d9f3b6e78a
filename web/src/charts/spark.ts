/** A curve as small as a word: one SVG path, drawn from up to 24 numbers of a job's row. */

import { isNumber, type Value } from './smooth';

export interface Spark {
  /** The `d` of an SVG path; empty where there is no value. */
  path: string;
  /** Where the last value is, for a dot at the line's end. */
  end: readonly [number, number] | null;
}

/** Draws these values into a box of this size. Nulls break the line; a constant is a level line in the middle. */
export function spark(values: readonly Value[], width: number, height: number, pad = 2): Spark {
  const numbers = values.filter(isNumber);
  if (numbers.length === 0) return { path: '', end: null };
  const low = Math.min(...numbers);
  const high = Math.max(...numbers);
  const middle = height / 2;
  if (numbers.length === 1) return { path: `M${pad} ${middle}H${width - pad}`, end: [width - pad, middle] };
  const across = (width - 2 * pad) / (values.length - 1);
  const up = high === low ? 0 : (height - 2 * pad) / (high - low);
  let path = '';
  let end: Spark['end'] = null;
  let pen = 'M';
  values.forEach((value, i) => {
    if (!isNumber(value)) {
      pen = 'M';
      return;
    }
    end = [tenths(pad + i * across), tenths(up === 0 ? middle : height - pad - (value - low) * up)];
    path += `${pen}${end[0]} ${end[1]}`;
    pen = 'L';
  });
  return { path, end };
}

function tenths(n: number): number {
  return Math.round(n * 10) / 10;
}
