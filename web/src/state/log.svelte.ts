/** A job's log, as far as it is shown. */

import { api } from '../api/client';

/** So many lines from the end are read. */
const MAX_LINES = 5000;

export class JobLog {
  text = $state.raw('');
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #reading = false;

  constructor(readonly job: string) {}

  /** Reads what there is; one request at a time. */
  async follow(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      const { data } = await api.GET('/jobs/{job_id}/logs', {
        params: { path: { job_id: this.job }, query: { tail: MAX_LINES } },
        parseAs: 'text',
      });
      this.text = String(data);
      this.error = null;
    } catch (error) {
      this.error = error;
    } finally {
      this.#reading = false;
      this.loaded = true;
    }
  }
}
