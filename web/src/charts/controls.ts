/** How charts are drawn, as the address says it: `?x=epoch&smooth=0.8&log=1&zoom=100~400`. */

import type { XMode } from './axes';
import type { Range } from './spec';

export const MAX_SMOOTHING = 0.99;

export interface Controls {
  mode: XMode;
  smoothing: number;
  log: boolean;
  zoom: Range | null;
}

/** Reads them; what the address does not say, or says wrongly, is as usual. */
export function controlsOf(
  query: URLSearchParams,
  usual: Pick<Controls, 'mode' | 'smoothing'>,
  hasTimes: boolean,
): Controls {
  return {
    mode: modesOf(usual.mode, hasTimes).find((mode) => mode === query.get('x')) ?? usual.mode,
    smoothing: smoothingOf(query.get('smooth')) ?? usual.smoothing,
    log: query.get('log') === '1',
    zoom: rangeOf(query.get('zoom')),
  };
}

/** Returns what x can be, the usual first; times only where the points have them. */
export function modesOf(usual: XMode, hasTimes: boolean): readonly XMode[] {
  const modes: readonly XMode[] = usual === 'epoch' ? ['epoch', 'step'] : ['step', 'epoch'];
  return hasTimes ? [...modes, 'time'] : modes;
}

function smoothingOf(text: string | null): number | null {
  const value = text === null || text === '' ? NaN : Number(text);
  return Number.isFinite(value) ? Math.min(Math.max(value, 0), MAX_SMOOTHING) : null;
}

/** Reads a range; null where there is none, or what is there is no range. */
export function rangeOf(text: string | null): Range | null {
  const [low, high] = (text ?? '').split('~').map(Number);
  return low !== undefined && high !== undefined && high > low ? [low, high] : null;
}

/** Writes a range, with as many digits as a drag is exact to. */
export function writeRange(range: Range | null): string | null {
  return range === null ? null : range.map((x) => Number(x.toPrecision(7))).join('~');
}
