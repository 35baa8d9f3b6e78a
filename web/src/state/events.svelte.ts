/** A job's log of events, all pages of it, and what is new in it. */

import { api, type Schemas } from '../api/client';
import { Growing } from './growing.svelte';

export type JobEvent = Schemas['EventRead'];

const PAGE = 100;

export class Events extends Growing {
  list = $state.raw<JobEvent[]>([]);

  protected async read(): Promise<void> {
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
  }
}
