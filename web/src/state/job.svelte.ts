/** The job in view: read whole, and again when something about it has changed. */

import { api, ApiError, type Schemas } from '../api/client';
import { live, type LiveData } from '../live/live.svelte';
import { whileVisible } from '../live/visible';

export type Job = Schemas['JobRead'];

/** After so long an event that came is followed by a reading of the job. */
const SOON_MS = 1000;
/** So often it is read though no event came; an answer without a change is a 304. */
const EVERY_MS = 10_000;

export const FINAL = new Set(['succeeded', 'failed', 'cancelled']);

export class JobInView {
  job = $state.raw<Job | null>(null);
  error = $state.raw<unknown>(null);
  #etag = '';
  #nextAt = 0;

  constructor(readonly id: string) {}

  /** Whether the job is gone, or was never there. */
  get missing(): boolean {
    return this.error instanceof ApiError && this.error.status === 404;
  }

  /** Keeps the job up to date until what this returns is called. */
  follow(): () => void {
    const soon = (data: Record<string, unknown>): void => {
      if (data.id === this.id || data.job === this.id) this.#nextAt = 0;
    };
    const ends = [
      live.on('job', soon),
      live.on('gone', soon),
      live.on('checkpoint', soon),
      live.on('progress', (data) => this.#move(data)),
      live.on('reset', () => (this.#nextAt = 0)),
      live.on('again', () => (this.#nextAt = 0)),
      whileVisible(() => this.#tick(), SOON_MS),
    ];
    return () => ends.forEach((end) => end());
  }

  async #tick(): Promise<void> {
    if (Date.now() < this.#nextAt) return;
    this.#nextAt = this.job === null ? 0 : Date.now() + EVERY_MS;
    await this.load();
  }

  /** Takes how far the job is from an event, without reading it. */
  #move({ job, progress, metrics }: LiveData): void {
    if (job !== this.id || this.job === null || FINAL.has(this.job.state)) return;
    this.job = {
      ...this.job,
      ...(progress !== undefined && { progress: progress as Job['progress'] }),
      ...(metrics !== undefined && { metrics: metrics as Job['metrics'] }),
    };
    this.#etag = ''; // what is shown is no answer of the yard's any more
  }

  /** Reads the job, whatever is known of it. */
  async load(): Promise<void> {
    try {
      const { data, response } = await api.GET('/jobs/{job_id}', {
        params: { path: { job_id: this.id } },
        headers: this.#etag === '' ? {} : { 'If-None-Match': this.#etag },
      });
      live.heard();
      this.error = null;
      if (response.status === 304) return;
      this.#etag = response.headers.get('ETag') ?? '';
      this.job = data;
    } catch (error) {
      this.error = error;
    }
  }

  /** Takes an answer that an action gave. */
  take(job: Job): void {
    this.#etag = '';
    this.#nextAt = 0;
    this.job = job;
  }
}
