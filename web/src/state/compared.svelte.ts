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
  #series: Record<string, Metrics> = {};
  /** Of the series, and which jobs' they are. */
  #tag = { ids: '', etag: '' };

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
      const jobs = new Map([...this.found].map(([id, { job }]) => [id, job]));
      for (const job of read) if (job !== null) jobs.set(job.id, job);
      if (open.length > 0) await this.#readSeries([...jobs.keys()]);
      if (ids !== this.#ids) return;
      this.found = new Map(
        [...jobs].map(([id, job]) => [id, { job, metrics: this.#series[id] ?? NO_METRICS }]),
      );
      this.error = null;
    } catch (error) {
      this.error = error;
    } finally {
      this.loaded = true;
    }
  }

  async #read(id: string): Promise<Job | null> {
    try {
      return (await api.GET('/jobs/{job_id}', { params: { path: { job_id: id } } })).data;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      this.missing = [...this.missing, id];
      return null;
    }
  }

  /** Reads the series of all these jobs in one answer, if any has changed. */
  async #readSeries(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    const known = this.#tag.ids === ids.join() ? this.#tag.etag : '';
    const { data, response } = await api.GET('/series', {
      params: { query: { job: [...ids], max_points: MAX_POINTS } },
      headers: known === '' ? {} : { 'If-None-Match': known },
    });
    if (response.status === 304) return;
    this.#tag = { ids: ids.join(), etag: response.headers.get('ETag') ?? '' };
    this.#series = data.data as unknown as Record<string, Metrics>;
  }
}
