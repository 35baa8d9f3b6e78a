/** A job's log, as far as it is shown. */

import { api, ApiError } from '../api/client';

/** So many lines from the end are read at first. */
const MAX_LINES = 5000;
/** A text that has grown beyond this loses its beginning. */
const MAX_CHARACTERS = 4_000_000;

export class JobLog {
  text = $state.raw('');
  loaded = $state(false);
  error = $state.raw<unknown>(null);
  #reading = false;
  /** Where the log goes on. */
  #next: number | null = null;

  constructor(readonly job: string) {}

  /** Reads its end, and then what is new; one request at a time. */
  async follow(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      let more = true;
      while (more) more = await this.#read();
      this.error = null;
    } catch (error) {
      if (error instanceof ApiError && error.status === 416) this.#next = null; // it was written anew
      this.error = error;
    } finally {
      this.#reading = false;
      this.loaded = true;
    }
  }

  /** Reads once, and tells whether there may be more at once. */
  async #read(): Promise<boolean> {
    const begins = this.#next === null;
    const { data, response } = await api.GET('/jobs/{job_id}/logs', {
      params: {
        path: { job_id: this.job },
        query: this.#next === null ? { tail: MAX_LINES } : { from_byte: this.#next },
      },
      parseAs: 'text',
    });
    const text = String(data);
    const next = response.headers.get('X-Next-Byte');
    const moved = next !== null && this.#next !== null && Number(next) > this.#next;
    this.#next = next === null ? null : Number(next);
    if (begins) this.text = text;
    else if (text !== '') this.text = (this.text + text).slice(-MAX_CHARACTERS);
    return moved;
  }
}
