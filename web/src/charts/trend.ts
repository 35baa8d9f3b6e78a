/** The sentence below a chart: what its lines do, for those who can't see them and for those in a hurry. */

import type { Points } from './align';
import { isNumber } from './smooth';

/** A turn smaller than this part of the whole movement is noise. */
const NOISE = 0.15;
/** A movement smaller than this part of the value is none. */
const LEVEL = 0.01;

interface Point {
  x: number;
  y: number;
}

/**
 * Says how a line moves: "falls from 1.8 to 0.24", "rises from 20 % to 90 % at step 300, then falls to 70 %", "stays
 * at 0.5".
 *
 * @param write how a value is written
 * @param place how a position is written, such as "step 300"
 */
export function sayTrend(
  { xs, values }: Points,
  write: (value: number) => string,
  place: (x: number) => string,
): string {
  const points = values.flatMap((y, i): Point[] => (isNumber(y) ? [{ x: xs[i]!, y }] : []));
  const first = points[0];
  const last = points.at(-1);
  if (first === undefined || last === undefined) return 'has no points yet';
  if (points.length === 1) return `is ${write(first.y)} at ${place(first.x)}`;
  const lowest = points.reduce((best, point) => (point.y < best.y ? point : best));
  const highest = points.reduce((best, point) => (point.y > best.y ? point : best));
  const height = highest.y - lowest.y;
  if (height <= LEVEL * Math.max(Math.abs(highest.y), Math.abs(lowest.y))) return `stays at ${write(last.y)}`;
  const turn = turnOf(first, last, [lowest, highest]);
  if (turn.size <= NOISE * height) {
    return `${last.y < first.y ? 'falls' : 'rises'} from ${write(first.y)} to ${write(last.y)}`;
  }
  const [there, back] = turn.at.y < first.y ? ['falls', 'rises'] : ['rises', 'falls'];
  return `${there} from ${write(first.y)} to ${write(turn.at.y)} at ${place(turn.at.x)}, then ${back} to ${write(last.y)}`;
}

/** Returns the extreme that lies furthest beyond both ends of the line, and how far. */
function turnOf(first: Point, last: Point, extremes: readonly [Point, Point]): { at: Point; size: number } {
  const turns = extremes.map((at) => ({
    at,
    size: Math.min(Math.abs(first.y - at.y), Math.abs(last.y - at.y)),
  }));
  return turns[0]!.size >= turns[1]!.size ? turns[0]! : turns[1]!;
}

/** More lines than this are only counted in the caption. */
const MOST_SAID = 6;

/** Joins what is said about lines, and a remark, into the caption. */
export function caption(lines: readonly string[], remark = ''): string {
  const more = lines.length - MOST_SAID;
  const said = more > 0 ? [...lines.slice(0, MOST_SAID), `${more} more in the table below`] : lines;
  const text = [...said, remark].filter(Boolean).join('; ');
  return text && `${text}.`;
}
