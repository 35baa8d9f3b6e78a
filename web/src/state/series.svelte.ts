/** The metric series of a job: read once, then by increments; and the points of a part that somebody zooms into. */

import { api } from '../api/client';
import { Growing } from './growing.svelte';
import { mergeMetrics, NO_METRICS, type Metrics } from './points';

/** So many points of each series are asked for; a chart is about this many pixels wide. */
const MAX_POINTS = 1000;
/** So much of a zoomed part is read before it. */
const LEAD = 0.2;
/** A series that has grown beyond this is read anew, thinned. */
const MAX_GROWN = 3 * MAX_POINTS;

export class Series extends Growing {
  metrics = $state.raw<Metrics>(NO_METRICS);
  /** The points of the steps that were zoomed into, where the series itself leaves some out; null: none. */
  part = $state.raw<Metrics | null>(null);
  #zoomed = '';

  /** Reads the points between two steps, unless all of them are here; null: nothing is zoomed. */
  async zoom(steps: readonly [number, number] | null): Promise<void> {
    const wanted = steps === null || !this.metrics.thinned ? '' : steps.join();
    if (wanted === this.#zoomed) return;
    this.#zoomed = wanted;
    if (wanted === '') {
      this.part = null;
      return;
    }
    const [from, to] = steps!;
    const before = (to - from) * LEAD; // so that the smoothing has its past at the left edge
    try {
      const part = await this.#get({
        from_step: Math.max(0, Math.floor(from - before)),
        to_step: Math.ceil(to),
      });
      if (this.#zoomed === wanted) this.part = part;
    } catch {
      this.#zoomed = ''; // the points that are here are shown meanwhile
    }
  }

  /** Reads what is new, or all where nothing is there yet or points were undone. */
  protected async read(): Promise<void> {
    const known = this.metrics;
    const grown = known.by_step.length > MAX_GROWN || known.by_epoch.length > MAX_GROWN;
    if (known.last_step < 0 || grown) {
      this.metrics = await this.#get({});
      return;
    }
    this.metrics = mergeMetrics(known, await this.#get({ after: known.last_step })) ?? (await this.#get({}));
  }

  async #get(steps: { after?: number; from_step?: number; to_step?: number }): Promise<Metrics> {
    const { data } = await api.GET('/jobs/{job_id}/metrics', {
      params: { path: { job_id: this.job }, query: { ...steps, max_points: MAX_POINTS, band: true } },
    });
    return { ...data, last_step: data.last_step ?? -1 } as unknown as Metrics;
  }
}
