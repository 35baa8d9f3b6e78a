/** A job's states over time: how long it waited, ran and was paused. */

import type { State } from '../../words';

export interface Strip {
  /** In the order of time; shares of the whole. */
  parts: { state: State; seconds: number; share: number }[];
  /** How long each state lasted altogether, in the order in which they first came. Final states last no time. */
  sums: { state: State; seconds: number }[];
}

const FINAL: readonly State[] = ['succeeded', 'failed', 'cancelled'];

/** Returns the strip of a history, oldest first, until `now` in milliseconds, or until the job ended. */
export function stripOf(history: readonly { state: State; at: string }[], now: number): Strip {
  const parts = history.map(({ state, at }, i) => {
    const begin = Date.parse(at);
    const next = history[i + 1];
    const end =
      next !== undefined ? Date.parse(next.at) : FINAL.includes(state) ? begin : Math.max(now, begin);
    return { state, seconds: (end - begin) / 1000 };
  });
  const whole = parts.reduce((sum, part) => sum + part.seconds, 0) || 1;
  const sums = new Map<State, number>();
  for (const { state, seconds } of parts) {
    if (!FINAL.includes(state)) sums.set(state, (sums.get(state) ?? 0) + seconds);
  }
  return {
    parts: parts.map((part) => ({ ...part, share: part.seconds / whole })),
    sums: [...sums].map(([state, seconds]) => ({ state, seconds })),
  };
}
