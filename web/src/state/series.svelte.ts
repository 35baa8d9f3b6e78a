/** The metric series of a job: read once, then by increments; and the points of a part of it that somebody zooms into. */

import { api } from '../api/client';
import { mergeMetrics, NO_METRICS, type Metrics } from './points';

/** So many points of each series are asked for; a chart is about this many pixels wide. */
const MAX_POINTS = 1000;
/** A series that has grown beyond this is read anew, thinned. */
const MAX_GROWN = 3 * MAX_POINTS;

export class Series {
  metrics = $state.raw<Metrics>(NO_METRICS);
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #reading = false;
  #again = false;

  constructor(readonly job: string) {}

  /** Reads what is new, or all where nothing is there yet or points were undone; one request at a time. */
  async follow(): Promise<void> {
    if (this.#reading) {
      this.#again = true;
      return;
    }
    this.#reading = true;
    try {
      do {
        this.#again = false;
        await this.#read();
      } while (this.#again);
      this.error = null;
    } catch (error) {
      this.error = error;
    } finally {
      this.#reading = false;
      this.loaded = true;
    }
  }

  async #read(): Promise<void> {
    const known = this.metrics;
    const grown = known.by_step.length > MAX_GROWN || known.by_epoch.length > MAX_GROWN;
    if (known.last_step < 0 || grown) {
      this.metrics = await this.#get(-1);
      return;
    }
    this.metrics = mergeMetrics(known, await this.#get(known.last_step)) ?? (await this.#get(-1));
  }

  async #get(after: number): Promise<Metrics> {
    const { data } = await api.GET('/jobs/{job_id}/metrics', {
      params: { path: { job_id: this.job }, query: { after, max_points: MAX_POINTS } },
    });
    return { ...data, last_step: data.last_step ?? -1 } as unknown as Metrics;
  }
}
