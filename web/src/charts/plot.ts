/** uPlot behind what a chart of ours needs: made anew when its lines change, else only given new points. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { align, type Aligned, type Points } from './align';
import { xIncrements, xTick, yRange, yTick } from './axes';
import { drawOverlay, widthOfNames } from './overlay';
import { smooth, type Value } from './smooth';
import { shownRange, type ChartLine, type ChartSpec, type Range } from './spec';
import type { Theme } from './theme';

export interface PlotHandlers {
  /** The pointer moved to a position of x, or left the chart. */
  onpoint: (x: number | null) => void;
  /** The pointer came near a line, or left all of them. */
  onnear: (key: string | null) => void;
  onzoom: (range: Range) => void;
  onreset: () => void;
}

const AXIS_WIDTH = 56;
const AXIS_HEIGHT = 30;
/** Points are drawn as dots where they are at least this far apart. */
const DOT_DISTANCE = 12;

/** A column of uPlot's data, and which line it belongs to. */
interface Column {
  line: ChartLine;
  part: 'raw' | 'smooth' | 'low' | 'high';
  values: readonly Value[];
}

export class Plot {
  #u: uPlot | null = null;
  #spec: ChartSpec | null = null;
  #theme: Theme | null = null;
  #columns: Column[] = [];
  #drawn: Aligned = { xs: [], columns: [] };
  #made = '';
  #inside = false;

  constructor(
    readonly host: HTMLElement,
    readonly handlers: PlotHandlers,
  ) {
    host.addEventListener('pointerenter', () => (this.#inside = true));
    host.addEventListener('pointerleave', () => {
      this.#inside = false;
      handlers.onpoint(null);
      handlers.onnear(null);
    });
  }

  /** The positions of all lines' points, ascending. */
  get xs(): readonly number[] {
    return this.#drawn.xs;
  }

  /** Shows this. What the pointer does, a selection and the size stay. */
  show(spec: ChartSpec, theme: Theme): void {
    this.#spec = spec;
    this.#columns = columnsOf(spec);
    const aligned = align(this.#columns.map(({ line, values }): Points => ({ xs: line.xs, values })));
    this.#drawn = { xs: aligned.xs, columns: mainColumns(this.#columns, aligned.columns) };
    const data = [aligned.xs, ...aligned.columns] as uPlot.AlignedData;
    const made = structureOf(spec, this.#columns);
    if (this.#u === null || made !== this.#made || theme !== this.#theme) {
      this.#theme = theme;
      this.#made = made;
      this.#u?.destroy();
      this.#u = new uPlot(this.#options(spec, theme), data, this.host);
    } else {
      this.#u.setData(data, true);
    }
  }

  resize(width: number, height: number): void {
    if (this.#u === null || (this.#u.width === width && this.#u.height === height)) return;
    this.#u.setSize({ width, height });
  }

  /** Moves the crosshair to a position of x without telling anybody; null hides it. */
  point(x: number | null): void {
    if (this.#u === null) return;
    const left = x === null ? -10 : this.#u.valToPos(x, 'x');
    this.#u.setCursor({ left, top: x === null ? -10 : 0 }, false);
  }

  destroy(): void {
    this.#u?.destroy();
    this.#u = null;
  }

  #options(spec: ChartSpec, theme: Theme): uPlot.Options {
    const { handlers } = this;
    const width = Math.max(this.host.clientWidth, 100);
    const font = `12px ${theme.fontFamily}`;
    const axis = { stroke: theme.dim, font, ticks: { show: false }, grid: { stroke: theme.line, width: 1 } };
    const few = spec.lines.length > 1;
    return {
      width,
      height: Math.max(this.host.clientHeight, 60),
      padding: [10, widthOfNames(spec, theme, width), 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false, range: () => [...shownRange(this.#spec!)] as [number, number] },
        y: { distr: spec.log ? 3 : 1, range: (_, low, high) => yRange(spec.measure, low, high, spec.log) },
      },
      axes: [
        {
          ...axis,
          size: AXIS_HEIGHT,
          gap: 8,
          space: 56,
          incrs: xIncrements(spec.mode),
          grid: { show: false },
          border: { show: true, stroke: theme.control, width: 1 },
          values: (_, splits) => splits.map((value) => xTick(spec.mode, value)),
        },
        {
          ...axis,
          size: AXIS_WIDTH,
          gap: 8,
          space: spec.log ? 24 : 34,
          values: (_, splits, __, ___, step) =>
            splits.map((value) => (value === null ? null : yTick(spec.measure, value, step))),
        },
      ],
      series: [{}, ...this.#columns.map((column) => seriesOf(column, theme))],
      bands: bandsOf(this.#columns, theme),
      focus: { alpha: few ? 0.25 : 1 },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false, dist: 5 },
        focus: { prox: few ? 18 : -1 },
        points: {
          size: (_, i) => (this.#columns[i - 1]?.part === 'smooth' ? 7 : 0),
          fill: (_, i) => theme.series(this.#columns[i - 1]?.line.look.colour ?? 0),
        },
        bind: {
          dblclick: () => () => {
            handlers.onreset();
            return null;
          },
        },
      },
      hooks: {
        draw: [(u) => drawOverlay(u, { spec: this.#spec!, theme, drawn: this.#drawn })],
        setSelect: [(u) => this.#select(u)],
        setCursor: [(u) => this.#report(u)],
        setSeries: [
          (_, i) => this.#inside && handlers.onnear(i ? (this.#columns[i - 1]?.line.key ?? null) : null),
        ],
      },
    };
  }

  #select(u: uPlot): void {
    const { left, width } = u.select;
    if (width <= 0) return;
    const range: Range = [u.posToVal(left, 'x'), u.posToVal(left + width, 'x')];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.handlers.onzoom(range);
  }

  /** Tells where the pointer is; uPlot also reports cursors that were set by `point`, whenever it draws. */
  #report(u: uPlot): void {
    if (!this.#inside) return;
    const { left = -1, idx } = u.cursor;
    this.handlers.onpoint(
      left < 0 || idx === null || idx === undefined ? null : (this.#drawn.xs[idx] ?? null),
    );
  }
}

/** Returns the columns in the order in which they are drawn: bands and raw lines behind, the lines in front. */
function columnsOf(spec: ChartSpec): Column[] {
  const range = spec.extent[1] - spec.extent[0];
  const behind: Column[] = [];
  const front: Column[] = [];
  for (const line of spec.lines) {
    if (line.low && line.high) {
      behind.push({ line, part: 'high', values: line.high }, { line, part: 'low', values: line.low });
    }
    if (line.smoothing > 0) {
      behind.push({ line, part: 'raw', values: line.values });
      front.push({ line, part: 'smooth', values: smooth(line.xs, line.values, line.smoothing, range) });
    } else {
      front.push({ line, part: 'smooth', values: line.values });
    }
  }
  return [...behind, ...front];
}

function mainColumns(columns: readonly Column[], aligned: readonly Value[][]): Value[][] {
  return aligned.filter((_, i) => columns[i]?.part === 'smooth');
}

/** Returns a text that differs where uPlot must be made anew. */
function structureOf(spec: ChartSpec, columns: readonly Column[]): string {
  return JSON.stringify([
    spec.measure,
    spec.mode,
    spec.log,
    columns.map(({ line, part }) => [line.key, line.name, line.look, part]),
  ]);
}

function seriesOf({ line, part, values }: Column, theme: Theme): uPlot.Series {
  const stroke = theme.series(line.look.colour);
  if (part === 'low' || part === 'high')
    return { scale: 'y', stroke: 'transparent', width: 0, points: { show: false } };
  if (part === 'raw')
    return { scale: 'y', stroke, width: 1, pxAlign: 0, alpha: 0.25, points: { show: false } };
  return {
    scale: 'y',
    stroke,
    width: 1.75,
    pxAlign: 0,
    dash: [...line.look.dash],
    points: {
      size: 5,
      stroke,
      fill: theme.card,
      show: (u) => values.length * DOT_DISTANCE <= Math.max(u.bbox.width / uPlot.pxRatio, DOT_DISTANCE),
    },
  };
}

function bandsOf(columns: readonly Column[], theme: Theme): uPlot.Band[] {
  return columns.flatMap(({ line, part }, i) =>
    part === 'high'
      ? [{ series: [i + 1, i + 2] as [number, number], fill: faint(theme.series(line.look.colour)) }]
      : [],
  );
}

/** Returns a colour of which little is left; the browser gives colours as `rgb(1, 2, 3)`. */
function faint(colour: string): string {
  return colour.replace(/^rgb\((.*)\)$/, 'rgb($1, 0.16)');
}
