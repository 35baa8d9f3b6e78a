/** The jobs that are compared, each with its series; those that still run are read again. */

import { api, ApiError } from '../api/client';
import { FINAL, type Job } from './job.svelte';
import { NO_METRICS, type Metrics } from './points';

/** More lines than this nobody tells apart. */
export const MAX_COMPARED = 20;
/** So many points of each series of each job. */
const MAX_POINTS = 1000;

export interface ComparedJob {
  job: Job;
  metrics: Metrics;
}

export class Compared {
  /** By id, those that were read. */
  found = $state.raw<ReadonlyMap<string, ComparedJob>>(new Map());
  /** Ids that there is no job for. */
  missing = $state.raw<readonly string[]>([]);
  error = $state.raw<unknown>(null);
  loaded = $state(false);
  #ids: readonly string[] = [];

  /** Reads these jobs; one that is here and has ended is not read again. */
  async show(ids: readonly string[]): Promise<void> {
    this.#ids = ids;
    this.found = new Map([...this.found].filter(([id]) => ids.includes(id)));
    this.missing = this.missing.filter((id) => ids.includes(id));
    await this.refresh();
  }

  /** Reads what may have changed. */
  async refresh(): Promise<void> {
    const ids = this.#ids;
    const open = ids.filter((id) => {
      const known = this.found.get(id);
      return !this.missing.includes(id) && (known === undefined || !FINAL.has(known.job.state));
    });
    try {
      const read = await Promise.all(open.map((id) => this.#read(id)));
      if (ids !== this.#ids) return; // others are compared by now
      const found = new Map(this.found);
      for (const one of read) if (one !== null) found.set(one.job.id, one);
      if (read.length > 0) this.found = found;
      this.error = null;
    } catch (error) {
      this.error = error;
    } finally {
      this.loaded = true;
    }
  }

  async #read(id: string): Promise<ComparedJob | null> {
    try {
      const [{ data: job }, { data: metrics }] = await Promise.all([
        api.GET('/jobs/{job_id}', { params: { path: { job_id: id } } }),
        api.GET('/jobs/{job_id}/metrics', {
          params: { path: { job_id: id }, query: { max_points: MAX_POINTS } },
        }),
      ]);
      return { job, metrics: { ...metrics, last_step: metrics.last_step ?? -1 } as unknown as Metrics };
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      this.missing = [...this.missing, id];
      return null;
    }
  }

  /** The jobs in the order in which they were asked for. */
  get list(): ComparedJob[] {
    return this.#ids.flatMap((id) => this.found.get(id) ?? []);
  }

  /** Returns the series of a job. */
  metricsOf(id: string): Metrics {
    return this.found.get(id)?.metrics ?? NO_METRICS;
  }
}
