/** A job's log, as far as it is shown. */

import { api, ApiError } from '../api/client';
import { Growing } from './growing.svelte';

/** So many lines from the end are read at first. */
const MAX_LINES = 5000;
/** A text that has grown beyond this loses its beginning. */
const MAX_CHARACTERS = 4_000_000;

export class JobLog extends Growing {
  text = $state.raw('');
  /** Where the log goes on. */
  #next: number | null = null;

  /** Reads its end, and then what is new. */
  protected async read(): Promise<void> {
    try {
      while (await this.#readPart());
    } catch (error) {
      if (error instanceof ApiError && error.status === 416) this.#next = null; // it was written anew
      throw error;
    }
  }

  /** Reads once, and tells whether there may be more at once. */
  async #readPart(): Promise<boolean> {
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
