/** Lines with positions of their own, brought onto one axis of x as uPlot wants them. */

import type { Value } from './smooth';

export interface Points {
  /** Ascending positions. */
  xs: readonly number[];
  values: readonly Value[];
}

export interface Aligned {
  xs: number[];
  /** For each line and position a value, null where the line is broken, or undefined where it just goes on. */
  columns: Value[][];
}

/** Returns the lines over the union of their positions, ascending. */
export function align(lines: readonly Points[]): Aligned {
  const first = lines[0]?.xs ?? [];
  if (lines.every((line) => sameNumbers(line.xs, first))) {
    return { xs: [...first], columns: lines.map((line) => [...line.values]) };
  }
  const xs = union(lines);
  const columns = lines.map((line) => {
    const column = new Array<Value>(xs.length).fill(undefined);
    let at = 0;
    line.xs.forEach((x, i) => {
      while (xs[at]! < x) at += 1;
      column[at] = line.values[i];
    });
    return column;
  });
  return { xs, columns };
}

/** Returns the index of the position that is nearest to x; -1 without positions. */
export function nearest(xs: readonly number[], x: number): number {
  if (xs.length === 0) return -1;
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle]! < x) low = middle;
    else high = middle;
  }
  return Math.abs(xs[low]! - x) <= Math.abs(xs[high]! - x) ? low : high;
}

function union(lines: readonly Points[]): number[] {
  const all = new Float64Array(lines.reduce((sum, line) => sum + line.xs.length, 0));
  let filled = 0;
  for (const line of lines) {
    all.set(line.xs, filled);
    filled += line.xs.length;
  }
  all.sort();
  const xs: number[] = [];
  for (const x of all) if (xs.length === 0 || xs[xs.length - 1] !== x) xs.push(x);
  return xs;
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((x, i) => x === b[i]));
}
