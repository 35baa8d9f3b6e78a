/** A job's log of events, all pages of it, and what is new in it. */

import { api, type Schemas } from '../api/client';

export type JobEvent = Schemas['EventRead'];

const PAGE = 100;

export class Events {
  list = $state.raw<JobEvent[]>([]);
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #reading = false;

  constructor(readonly job: string) {}

  /** Reads what is new; one request at a time. */
  async follow(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      let more = true;
      while (more) {
        const after = Number(this.list.at(-1)?.id ?? 0);
        const { data } = await api.GET('/jobs/{job_id}/events', {
          params: { path: { job_id: this.job }, query: { limit: PAGE, after } },
        });
        if (typeof data !== 'object') break; // the other form of this route: a stream
        if (data.data.length > 0) this.list = [...this.list, ...data.data];
        more = data.has_more;
      }
      this.error = null;
    } catch (error) {
      this.error = error;
    } finally {
      this.#reading = false;
      this.loaded = true;
    }
  }
}
