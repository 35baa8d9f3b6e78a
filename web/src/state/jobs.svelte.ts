/** The rows of all jobs, kept up to date by what `live` tells. */

import { SvelteMap } from 'svelte/reactivity';
import { send, url } from '../api/client';
import { live, type LiveData } from '../live/live.svelte';
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
  /** Up to 24 numbers of its curve. */
  spark: number[];
}

/** How many jobs there are in each state; a state without jobs may be missing. */
export type Counts = Partial<Record<State, number>>;

/** The most rows that the yard gives at once; older jobs are found by the filters. */
const MOST = 1000;

/** After a change of the queue its places are read anew, but not more often than this. */
const PLACES_AFTER_MS = 1000;

class Jobs {
  readonly rows = new SvelteMap<string, JobRow>();
  counts = $state<Counts>({});
  loaded = $state(false);
  error = $state<unknown>(null);
  /** Changes that arrive while rows are read: they may be newer than what is read. */
  #meanwhile: (() => void)[] | null = null;
  #reading: Promise<void> | null = null;
  #places: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    live.on('job', (row) => this.#change(() => this.#set(row as unknown as JobRow)));
    live.on('gone', ({ job }) => this.#change(() => this.#remove(job as string)));
    live.on('progress', (data) => this.#change(() => this.#move(data)));
    live.on('worker', () => this.#readPlacesSoon());
    live.on('reset', () => void (this.loaded && this.load()));
    live.on('again', () => this.#readPlacesSoon());
  }

  /** Reads the rows when a view first shows them; from then on they follow the yard by themselves. */
  watch(): () => void {
    if (!this.loaded || this.error !== null) void this.load();
    return () => undefined;
  }

  /** Reads all rows anew. */
  load(): Promise<void> {
    this.#reading ??= this.#load().finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #load(): Promise<void> {
    await live.ready();
    this.#meanwhile = [];
    try {
      const response = await send(new Request(url('/jobs', { view: 'row', limit: MOST })));
      const { data, counts } = (await response.json()) as { data: JobRow[]; counts: Counts };
      const present = new Set(data.map((row) => row.id));
      for (const id of this.rows.keys()) if (!present.has(id)) this.rows.delete(id);
      for (const row of data) this.rows.set(row.id, row);
      this.counts = counts;
      this.error = null;
      live.heard();
      for (const change of this.#meanwhile) change();
    } catch (error) {
      this.error = error;
    } finally {
      this.#meanwhile = null;
      this.loaded = true;
    }
  }

  #change(act: () => void): void {
    this.#meanwhile?.push(act);
    if (this.loaded) act();
  }

  #set(row: JobRow): void {
    const before = this.rows.get(row.id);
    this.rows.set(row.id, row);
    this.#count(before?.state, row.state);
    if (before?.state !== row.state && (before?.state === 'queued' || row.state === 'queued')) {
      this.#readPlacesSoon();
    }
  }

  #remove(id: string): void {
    const before = this.rows.get(id);
    if (this.rows.delete(id)) this.#count(before?.state, undefined);
  }

  /** Takes what changes all the time: progress and metrics of a running job, the place of a queued one. */
  #move(data: LiveData): void {
    const row = this.rows.get(data.job as string);
    if (row === undefined) return;
    const { job: _, ...changes } = data;
    this.rows.set(row.id, { ...row, ...(changes as Partial<JobRow>) });
  }

  #count(before: State | undefined, after: State | undefined): void {
    if (before === after) return;
    const counts = { ...this.counts };
    if (before !== undefined) counts[before] = Math.max(0, (counts[before] ?? 0) - 1);
    if (after !== undefined) counts[after] = (counts[after] ?? 0) + 1;
    this.counts = counts;
  }

  /** A job that leaves the queue moves all behind it, of which the yard tells nothing: their rows are read again. */
  #readPlacesSoon(): void {
    if (!this.loaded || this.#places !== undefined || !(this.counts.queued ?? 0)) return;
    this.#places = setTimeout(() => {
      this.#places = undefined;
      void this.#readPlaces();
    }, PLACES_AFTER_MS);
  }

  async #readPlaces(): Promise<void> {
    try {
      const response = await send(new Request(url('/jobs', { view: 'row', state: 'queued', limit: MOST })));
      const { data } = (await response.json()) as { data: JobRow[] };
      for (const row of data) if (this.rows.get(row.id)?.state === 'queued') this.rows.set(row.id, row);
    } catch {
      // the bar says that the yard does not answer
    }
  }
}

export const jobs = new Jobs();
