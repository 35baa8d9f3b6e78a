/** The datasets, read anew at each change that the yard tells, and every second while one of them is coming. */

import { api } from '../api/client';
import { live } from '../live/live.svelte';
import type { Dataset } from '../views/datasets/facts';
import { Loaded } from './loaded.svelte';

const WHILE_COMING_MS = 1000;
const AFTER_CHANGE_MS = 200;

/** Whether a dataset will change without anybody doing anything. */
export function isComing({ state }: Dataset): boolean {
  return state === 'uploading' || state === 'validating';
}

export interface Fresh {
  /** Reads it anew soon, and goes on as long as it is restless. */
  changed: () => void;
  stop: () => void;
}

/** Keeps something that is read from the yard up to date, until it is stopped. */
export function keepFresh(load: () => Promise<unknown>, isRestless: () => boolean): Fresh {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  const soon = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(() => void again(), ms);
  };
  const again = async () => {
    if (document.hidden) return; // the change to visible reads it
    await load();
    if (!over && isRestless()) soon(WHILE_COMING_MS);
  };
  const changed = () => soon(AFTER_CHANGE_MS);
  const shown = () => document.hidden || void again();
  document.addEventListener('visibilitychange', shown);
  const stops = [live.on('dataset', changed), live.on('gone', changed), live.on('reset', changed)];
  void again();
  const stop = () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', shown);
    for (const unsubscribe of stops) unsubscribe();
  };
  return { changed, stop };
}

class Datasets extends Loaded<Dataset[]> {
  /** Whether there are more than were read. */
  hasMore = $state(false);
  #limit = 100;
  #fresh: Fresh | null = null;

  /** Keeps the list fresh while a view shows it. */
  watch(): () => void {
    const fresh = (this.#fresh = keepFresh(
      () => this.read(),
      () => (this.data?.some(isComing) ?? false) || this.error !== null,
    ));
    return () => {
      fresh.stop();
      this.stop();
    };
  }

  /** Says that something of the list has changed; the view that shows it reads it anew. */
  changed(): void {
    this.#fresh?.changed();
  }

  /** Reads it anew. */
  async read(): Promise<void> {
    await this.load(async (signal) => {
      const { data } = await api.GET('/datasets', { params: { query: { limit: this.#limit } }, signal });
      this.hasMore = data.has_more;
      return data.data;
    });
  }
}

export const datasets = new Datasets();
