/** What a chart shows, in words of training; `plot.ts` makes uPlot's options of it. */

import type { Points } from './align';
import type { Measure, XMode } from './axes';
import type { LineLook } from './palette';
import type { Value } from './smooth';

export interface ChartLine extends Points {
  key: string;
  /** Stands at the line's end, in the legend and in the table. */
  name: string;
  look: LineLook;
  /** 0: none, to just under 1; then the raw line is drawn faintly behind. */
  smoothing: number;
  /** The lowest and highest value that each point stands for, drawn as a band. */
  low?: readonly Value[];
  high?: readonly Value[];
}

/** A point with a star, its name and a thin vertical. */
export interface Star {
  key: string;
  x: number;
  y: number;
  label: string;
}

/** Something that happened at a position of x. */
export interface Happening {
  x: number;
  kind: 'checkpoint' | 'pause' | 'resume' | 'lost';
  label: string;
}

export type Range = readonly [number, number];

export interface ChartSpec {
  measure: Measure;
  mode: XMode;
  lines: readonly ChartLine[];
  /** The range of x while nothing is zoomed; the smoothing refers to its width. */
  extent: Range;
  zoom: Range | null;
  /** Whether y is logarithmic; only where all values are over 0. */
  log: boolean;
  stars: readonly Star[];
  happenings: readonly Happening[];
  /** A name that must fit behind the lines' ends; charts with the same one have their axes in one line. */
  room: string;
}

/** Returns the range of x that the chart shows. */
export function shownRange(spec: Pick<ChartSpec, 'extent' | 'zoom'>): Range {
  const [low, high] = spec.zoom ?? spec.extent;
  return high > low ? [low, high] : [low, low + 1];
}

/** Tells whether a logarithmic y can show all of these lines. */
export function allowsLog(lines: readonly ChartLine[]): boolean {
  return lines.every((line) =>
    line.values.every((value) => value === null || value === undefined || value > 0),
  );
}
