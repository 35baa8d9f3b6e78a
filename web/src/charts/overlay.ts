/** What is drawn upon uPlot's canvas: names at the lines' ends, stars, happenings, and the name of the axis of x. */

import uPlot from 'uplot';
import { nearest, type Aligned } from './align';
import { X_NAMES } from './axes';
import { isNumber } from './smooth';
import type { ChartSpec, Happening, Star } from './spec';
import type { Theme } from './theme';

const NAME_HEIGHT = 14;
const NAME_GAP = 8;
const FONT_PX = 12;

export interface Overlay {
  spec: ChartSpec;
  theme: Theme;
  /** The lines as they are drawn, in the order of `spec.lines`. */
  drawn: Aligned;
}

/** Returns the width that the names at the lines' ends take, at most a part of the chart. */
export function widthOfNames(spec: ChartSpec, theme: Theme, width: number): number {
  const context = document.createElement('canvas').getContext('2d');
  if (context === null) return 0;
  context.font = `${FONT_PX}px ${theme.fontFamily}`;
  const texts = [...spec.lines.map((line) => line.name), X_NAMES[spec.mode], spec.room];
  const widest = Math.max(...texts.map((text) => context.measureText(text).width));
  return Math.min(Math.ceil(widest), Math.round(width * 0.24), 140) + NAME_GAP + 10;
}

/** Draws all of it; to be called when uPlot has drawn its lines. */
export function drawOverlay(u: uPlot, { spec, theme, drawn }: Overlay): void {
  const pen = new Pen(u, theme);
  u.ctx.save();
  for (const happening of spec.happenings) drawHappening(pen, happening);
  drawNames(pen, spec, drawn);
  pen.text(X_NAMES[spec.mode], pen.right + NAME_GAP + 8, pen.bottom + 14, theme.dim);
  for (const star of spec.stars) drawStar(pen, spec, star);
  u.ctx.restore();
}

/** uPlot's canvas in CSS pixels, with the places of the plot. */
class Pen {
  readonly context: CanvasRenderingContext2D;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  readonly #ratio: number;

  constructor(
    readonly u: uPlot,
    readonly theme: Theme,
  ) {
    this.context = u.ctx;
    this.#ratio = uPlot.pxRatio;
    this.left = u.bbox.left / this.#ratio;
    this.top = u.bbox.top / this.#ratio;
    this.right = this.left + u.bbox.width / this.#ratio;
    this.bottom = this.top + u.bbox.height / this.#ratio;
    this.context.setTransform(this.#ratio, 0, 0, this.#ratio, 0, 0);
    this.context.font = `${FONT_PX}px ${theme.fontFamily}`;
    this.context.textBaseline = 'middle';
    this.context.setLineDash([]);
    this.context.lineWidth = 1;
  }

  x(value: number): number {
    return this.left + this.u.valToPos(value, 'x');
  }

  y(value: number): number {
    return this.top + this.u.valToPos(value, 'y');
  }

  within(x: number): boolean {
    return x >= this.left - 0.5 && x <= this.right + 0.5;
  }

  text(text: string, x: number, y: number, colour: string, align: CanvasTextAlign = 'left'): void {
    this.context.textAlign = align;
    this.context.fillStyle = colour;
    this.context.fillText(text, x, y);
  }

  /** Text on a card of its own, so that a line behind it does not cross it out. */
  label(text: string, x: number, y: number, colour: string, align: CanvasTextAlign): void {
    const width = this.context.measureText(text).width;
    const from = align === 'left' ? x : x - width;
    this.context.globalAlpha = 0.85;
    this.context.fillStyle = this.theme.card;
    this.context.fillRect(from - 3, y - NAME_HEIGHT / 2 - 1, width + 6, NAME_HEIGHT + 2);
    this.context.globalAlpha = 1;
    this.text(text, x, y, colour, align);
  }

  vertical(x: number, from: number, to: number, colour: string, dash: number[] = []): void {
    const middle = Math.round(x) + 0.5;
    this.context.strokeStyle = colour;
    this.context.setLineDash(dash);
    this.context.beginPath();
    this.context.moveTo(middle, from);
    this.context.lineTo(middle, to);
    this.context.stroke();
    this.context.setLineDash([]);
  }

  /** Shortens a text until it fits. */
  fit(text: string, width: number): string {
    if (this.context.measureText(text).width <= width) return text;
    let length = text.length;
    while (length > 1 && this.context.measureText(`${text.slice(0, length)}…`).width > width) length -= 1;
    return `${text.slice(0, length).trimEnd()}…`;
  }
}

function drawHappening(pen: Pen, { x, kind }: Happening): void {
  const at = pen.x(x);
  if (!pen.within(at)) return;
  if (kind === 'checkpoint') pen.vertical(at, pen.bottom - 4, pen.bottom, pen.theme.control);
  else pen.vertical(at, pen.top, pen.bottom, kind === 'lost' ? pen.theme.bad : pen.theme.warn, [1, 3]);
}

/** Writes each line's name at its end; names that would overlap are moved apart, in the order of their lines. */
function drawNames(pen: Pen, spec: ChartSpec, drawn: Aligned): void {
  const { min = null, max = null } = pen.u.scales.x ?? {};
  const names = spec.lines.flatMap((line, n) => {
    const end = lastIn(drawn.xs, drawn.columns[n] ?? [], min, max);
    return end === null ? [] : [{ line, y: Math.min(Math.max(pen.y(end), pen.top), pen.bottom) }];
  });
  names.sort((a, b) => a.y - b.y);
  const places = spread(
    names.map((name) => name.y),
    NAME_HEIGHT,
    pen.top + NAME_HEIGHT / 2,
    pen.bottom - NAME_HEIGHT / 2,
  );
  const room = pen.u.width - pen.right - NAME_GAP;
  names.forEach(({ line }, i) => {
    pen.text(pen.fit(line.name, room), pen.right + NAME_GAP, places[i]!, pen.theme.series(line.look.colour));
  });
}

/** Returns the last value of a column within a range of x. */
function lastIn(
  xs: readonly number[],
  column: readonly (number | null | undefined)[],
  min: number | null,
  max: number | null,
): number | null {
  for (let i = max === null ? xs.length - 1 : nearest(xs, max); i >= 0; i -= 1) {
    if (min !== null && xs[i]! < min) return null;
    const value = column[i];
    if (isNumber(value)) return value;
  }
  return null;
}

/** Moves ascending places apart to this distance, within bounds, as little as a pass down and a pass up need. */
export function spread(places: readonly number[], distance: number, low: number, high: number): number[] {
  const moved = [...places];
  for (let i = 0; i < moved.length; i += 1)
    moved[i] = Math.max(moved[i]!, i === 0 ? low : moved[i - 1]! + distance);
  for (let i = moved.length - 1; i >= 0; i -= 1) {
    moved[i] = Math.min(moved[i]!, i === moved.length - 1 ? high : moved[i + 1]! - distance);
  }
  return moved;
}

function drawStar(pen: Pen, spec: ChartSpec, star: Star): void {
  const x = pen.x(star.x);
  if (!pen.within(x)) return;
  const y = pen.y(star.y);
  const colour = pen.theme.series(spec.lines.find((line) => line.key === star.key)?.look.colour ?? 0);
  if (star.label) {
    pen.context.globalAlpha = 0.5;
    pen.vertical(x, pen.top, pen.bottom, colour);
    pen.context.globalAlpha = 1;
  }
  starPath(pen.context, x, y, 7);
  pen.context.fillStyle = colour;
  pen.context.strokeStyle = pen.theme.card;
  pen.context.lineWidth = 2;
  pen.context.stroke();
  pen.context.fill();
  pen.context.lineWidth = 1;
  if (!star.label) return;
  const width = pen.context.measureText(star.label).width;
  const fitsRight = x + 10 + width <= pen.right;
  const below = y < (pen.top + pen.bottom) / 2;
  pen.label(
    star.label,
    fitsRight ? x + 10 : x - 10,
    y + (below ? 16 : -16),
    pen.theme.text,
    fitsRight ? 'left' : 'right',
  );
}

function starPath(context: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  context.beginPath();
  for (let i = 0; i < 10; i += 1) {
    const angle = (i * Math.PI) / 5 - Math.PI / 2;
    const distance = i % 2 === 0 ? radius : radius * 0.45;
    context.lineTo(x + Math.cos(angle) * distance, y + Math.sin(angle) * distance);
  }
  context.closePath();
}
