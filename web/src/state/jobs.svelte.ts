/** The rows of all jobs, kept up to date by what `live` tells. */

import { SvelteMap } from 'svelte/reactivity';
import { send, url } from '../api/client';
import { live } from '../live/live.svelte';
import type { State, Told } from '../words';

export interface Progress {
  epoch: number;
  epochs: number | null;
  step: number;
  steps: number | null;
  fraction: number;
  images_per_s: number | null;
  eta_s: number | null;
}

/** A job without its config and history, as `GET /jobs?view=row` and the event `job` give it. */
export interface JobRow extends Told {
  id: string;
  name: string | null;
  state: State;
  dataset: string;
  recipe: string | null;
  metadata: Record<string, string>;
  priority: number;
  created_at: string;
  queued_at: string;
  started_at: string | null;
  finished_at: string | null;
  worker: string | null;
  progress: Progress;
  metrics: Record<string, number | null> | null;
  best: Record<string, number | string | null> | null;
  test: Record<string, number | string | null> | null;
  latest_checkpoint: string | null;
  error: { code: string; message: string } | null;
  /** Up to 24 numbers of its curve; absent on a yard that does not send it yet. */
  spark?: (number | null)[];
}

/** How many jobs there are in each state; a state without jobs may be missing. */
export type Counts = Partial<Record<State, number>>;

class Jobs {
  readonly rows = new SvelteMap<string, JobRow>();
  counts = $state<Counts>({});
  loaded = $state(false);
  error = $state<unknown>(null);

  constructor() {
    live.on('job', (row) => this.rows.set(row.id as string, row as unknown as JobRow));
    live.on('gone', ({ job }) => void this.rows.delete(job as string));
  }

  /** Reads all rows anew. */
  async load(): Promise<void> {
    try {
      const response = await send(new Request(url('/jobs', { view: 'row', limit: 1000 })));
      const { data, counts } = (await response.json()) as { data: JobRow[]; counts: Counts };
      const present = new Set(data.map((row) => row.id));
      for (const id of this.rows.keys()) if (!present.has(id)) this.rows.delete(id);
      for (const row of data) this.rows.set(row.id, row);
      this.counts = counts;
      this.error = null;
      live.heard();
    } catch (error) {
      this.error = error;
    } finally {
      this.loaded = true;
    }
  }
}

export const jobs = new Jobs();
