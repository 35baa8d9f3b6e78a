/** What the model says about pictures, and how its answer to one of them changed while it learned. */

import { SvelteMap } from 'svelte/reactivity';
import { ApiError, post, type Schemas } from '../../api/client';
import { inRequests, type Picture } from './pictures';

export type Label = Schemas['LabelRead'];
export type Model = Schemas['PredictRead']['model'];

export interface Answer {
  /** The most probable class first. */
  predictions: Label[];
  model: Model;
  /** How long it took on the yard. */
  totalMs: number;
}

/** One answer of a followed job: the probabilities by class. */
export interface Column {
  checkpoint: string;
  job: string;
  epoch: number;
  probabilities: Map<string, number>;
}

const TOP = 5;
/** As many as are compared over epochs; a class outside of them is so improbable that it does not count. */
const TOP_FOLLOWED = 100;
const MOST_COLUMNS = 100;

export class Answers {
  /** By the picture's id. */
  readonly of = new SvelteMap<number, Answer>();
  readonly errors = new SvelteMap<number, unknown>();
  /** Why nothing could be answered at all. */
  error = $state.raw<ApiError | null>(null);
  busy = $state(false);
  /** The answers to the followed picture, oldest first. */
  columns = $state.raw<Column[]>([]);
  #stop = new AbortController();

  /** Asks about pictures; an earlier request that is under way is given up. */
  async ask(pictures: Picture[], model: string): Promise<void> {
    this.#stop.abort();
    const { signal } = (this.#stop = new AbortController());
    this.busy = true;
    try {
      for (const some of inRequests(pictures)) {
        if (some.length === 1) await this.#askOne(some[0]!, model, signal);
        else await this.#askMany(some, model, signal);
      }
      if (!signal.aborted) this.error = null;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.error = error;
    } finally {
      if (!signal.aborted) this.busy = false;
    }
  }

  /** Forgets all answers, as when another model is chosen. */
  clear(): void {
    this.of.clear();
    this.errors.clear();
    this.columns = [];
    this.error = null;
  }

  /** Begins to follow another picture. */
  forgetColumns(): void {
    this.columns = [];
  }

  stop(): void {
    this.#stop.abort();
    this.busy = false;
  }

  async #askOne(picture: Picture, model: string, signal: AbortSignal): Promise<void> {
    const form = formOf([picture]);
    const response = await post('/predict', form, { query: { model, top_k: TOP_FOLLOWED }, signal });
    const { predictions, model: by, timing } = (await response.json()) as Schemas['PredictRead'];
    if (signal.aborted) return;
    this.of.set(picture.id, { predictions: predictions.slice(0, TOP), model: by, totalMs: timing.total_ms });
    this.errors.delete(picture.id);
    this.#addColumn(by, predictions);
  }

  async #askMany(pictures: Picture[], model: string, signal: AbortSignal): Promise<void> {
    const response = await post('/predict', formOf(pictures), { query: { model, top_k: TOP }, signal });
    const { results, model: by, timing } = (await response.json()) as Schemas['PredictManyRead'];
    if (signal.aborted) return;
    for (const [place, { predictions, error }] of results.entries()) {
      const { id } = pictures[place]!;
      if (predictions) this.of.set(id, { predictions, model: by, totalMs: timing.total_ms });
      if (!error) this.errors.delete(id);
      else this.errors.set(id, error);
    }
  }

  #addColumn({ checkpoint, job, epoch }: Model, predictions: Label[]): void {
    const probabilities = new Map(predictions.map(({ label, probability }) => [label, probability]));
    const same = this.columns.filter((column) => column.job === job && column.checkpoint !== checkpoint);
    this.columns = [...same, { checkpoint, job, epoch, probabilities }].slice(-MOST_COLUMNS);
  }
}

function formOf(pictures: Picture[]): FormData {
  const form = new FormData();
  for (const { blob, name } of pictures) form.append('file', blob, name);
  return form;
}
